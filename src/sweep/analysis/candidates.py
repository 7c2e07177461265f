"""The checkpoints, sizes or recipes that a sweep ranks, and their scores after each of its anneals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd

from sweep.analysis.comparisons import PairedDocuments
from sweep.analysis.factors import Axis, Floats
from sweep.analysis.outcomes import ALL_TASKS, Outcome, suite_members
from sweep.analysis.ranking import AS_IS, LEAST, Ranking, Scoring, rank, unpaired
from sweep.analysis.settings import settings_text
from sweep.analysis.signal_to_noise import seed_noise
from sweep.planning.names import is_of_checkpoint

MOST_ANNEALS = 24
"""Settings of the anneal whose scores are judged; of more, this number, spread over their costs."""
MOST_COMPARED = 45
"""Pairs of candidates whose documents are read: all pairs of ten."""
CANDIDATE, ANNEAL = "candidate", "anneal"


def sweep_ranking(
    finished: pd.DataFrame,
    axes: Sequence[Axis],
    outcomes: Sequence[Outcome],
    primary: Sequence[Outcome],
    paired: PairedDocuments | None = None,
) -> Ranking:
    """The order of a sweep's checkpoints, each with each recipe of data if those vary, as every anneal shows it.

    The order after the longest anneal is that of the outcomes `primary`; the scores to rank by are chosen among them
    and the means over all tasks. Differences after the longest anneal are tested on the same documents by `paired`.
    """
    anneals = finished[finished["arm"] == "decay"] if "arm" in finished else finished[:0]
    recipes = [axis.name for axis in axes if f"{axis.name}.".startswith("data.")]
    of_anneal = [axis.name for axis in axes if not is_of_checkpoint(axis.name) and axis.name not in recipes]
    labels = {CANDIDATE: _labels(anneals, ["checkpoint", *recipes]), ANNEAL: _labels(anneals, of_anneal)}
    anneals = anneals.drop(columns=ANNEAL, errors="ignore").assign(**labels)
    names = {
        str(row[CANDIDATE]): " ".join([str(row["checkpoint_name"]), *filter(None, [_text(row, recipes)])])
        for _, row in anneals.drop_duplicates(CANDIDATE).iterrows()
    }
    if len(names) < LEAST:
        return Ranking()
    judged = _spread(anneals).assign(anneal_text=lambda rows: [_text(row, of_anneal) for _, row in rows.iterrows()])
    scorings = [s for o in outcomes if o.column("after") in judged for s in _scorings(judged, o, list(names))]
    if paired is not None:
        documents = _on_same_documents(judged, outcomes, primary, list(names), paired)
        scorings = [replace(s, errors=documents.get((s.anneal, s.outcome), s.errors)) for s in scorings]
    choices = [o.name for o in outcomes if o in primary or o.task == ALL_TASKS]
    return rank(list(names.values()), scorings, [outcome.name for outcome in primary], choices)


def _scorings(anneals: pd.DataFrame, outcome: Outcome, candidates: Sequence[str]) -> Iterator[Scoring]:
    """The scores as the candidates are, then after each anneal; the noise between seeds is part of the error."""
    after = anneals.dropna(subset=[outcome.column("after")])
    if outcome.column("before") in anneals:
        yield _scoring(anneals.dropna(subset=[outcome.column("before")]), outcome, "before", candidates, 0.0)
    for _, rows in after.groupby(ANNEAL, sort=False):
        yield _scoring(rows, outcome, "after", candidates, _between_seeds(after, outcome))


def _scoring(rows: pd.DataFrame, outcome: Outcome, when: str, candidates: Sequence[str], variance: float) -> Scoring:
    """The candidates' scores, the means over their runs; `variance` is that between seeds."""
    runs = rows.groupby(CANDIDATE, sort=False)
    errors = rows[outcome.stderr(when)].pow(2) if outcome.stderr(when) in rows else rows[outcome.column(when)] * np.nan
    documents = errors.groupby(rows[CANDIDATE], sort=False).mean()  # seeds share the documents
    return Scoring(
        anneal=AS_IS if when == "before" else str(rows["anneal_text"].iloc[0]),
        outcome=outcome.name,
        sign=outcome.sign,
        tokens=0.0 if when == "before" else float(rows["cost/tokens"].mean()),
        values=runs[outcome.column(when)].mean().reindex(candidates).to_numpy(float),
        errors=unpaired(np.sqrt(documents + variance / runs.size()).reindex(candidates).to_numpy(float)),
    )


def _between_seeds(anneals: pd.DataFrame, outcome: Outcome) -> float:
    """The variance of a score between seeds; 0 if no run is repeated."""
    noise = seed_noise(anneals.groupby([CANDIDATE, ANNEAL], sort=False)[outcome.column("after")])
    return noise.sd**2 if noise else 0.0


def _on_same_documents(
    anneals: pd.DataFrame,
    outcomes: Sequence[Outcome],
    primary: Sequence[Outcome],
    candidates: Sequence[str],
    paired: PairedDocuments,
) -> dict[tuple[str, str], Floats]:
    """The errors (K, K) of the primary outcomes after the longest anneal, with what documents share taken out.

    The documents of the MOST_COMPARED pairs that are closest by the first primary outcome are read.
    """
    longest = anneals[anneals[ANNEAL] == anneals.groupby(ANNEAL, sort=False)["cost/tokens"].mean().idxmax()]
    suites = {mean: tasks for mean, tasks in suite_members(anneals, outcomes).items() if mean in primary}
    needed = list(dict.fromkeys([*primary, *(task for tasks in suites.values() for task in tasks)]))
    scorings = {o: _scoring(longest, o, "after", candidates, 0.0) for o in primary if o.column("after") in longest}
    errors = {o: scoring.errors.copy() for o, scoring in scorings.items()}
    first, runs = longest.drop_duplicates(CANDIDATE).set_index(CANDIDATE), longest.groupby(CANDIDATE).size()
    for i, j in _closest(next(iter(scorings.values())).values) if scorings else ():
        pairs = dict(paired(first.loc[candidates[i]], first.loc[candidates[j]], needed))
        of_pair = {o: float((b - a).std(ddof=1) / np.sqrt(len(a))) for o, (a, b) in pairs.items()}
        for mean, tasks in suites.items():
            if set(tasks) <= set(of_pair):
                of_pair[mean] = float(np.sqrt(sum(of_pair[task] ** 2 for task in tasks))) / len(tasks)
        for outcome in (o for o in errors if o in of_pair):
            seeds = _between_seeds(anneals, outcome) * (1 / runs[candidates[i]] + 1 / runs[candidates[j]])
            errors[outcome][i, j] = errors[outcome][j, i] = np.sqrt(of_pair[outcome] ** 2 + seeds)
    return {(scorings[outcome].anneal, outcome.name): matrix for outcome, matrix in errors.items()}


def _closest(values: Floats) -> list[tuple[int, int]]:
    """The pairs of candidates with the least differences."""
    known = [(i, j) for i, j in combinations(range(len(values)), 2) if np.isfinite(values[i] - values[j])]
    return sorted(known, key=lambda pair: abs(values[pair[0]] - values[pair[1]]))[:MOST_COMPARED]


def _spread(anneals: pd.DataFrame) -> pd.DataFrame:
    """The runs of at most MOST_ANNEALS settings, the cheapest and the longest among them."""
    tokens = anneals.groupby(ANNEAL, sort=False)["cost/tokens"].mean().sort_values(kind="stable")
    places = np.unique(np.linspace(0, len(tokens) - 1, min(len(tokens), MOST_ANNEALS)).astype(int))
    return anneals[anneals[ANNEAL].isin(tokens.index[places])]


def _labels(runs: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """For each run the number of its values in these columns."""
    if not names:
        return ["0"] * len(runs)
    return [str(number) for number in runs.groupby(list(names), sort=False, dropna=False).ngroup()]


def _text(row: pd.Series, names: Sequence[str]) -> str:
    """The values of these columns in the form of overrides."""
    return settings_text((name, row[name]) for name in names)
