"""Did annealing help? Which runs are compared with what, run by run and setting by setting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweep.analysis.factors import Floats
from sweep.analysis.gains import Comparison, Gain, Pair, gain, with_document_test
from sweep.analysis.outcomes import Outcome, chosen_outcomes, primary_outcomes, suite_members
from sweep.analysis.over_seeds import Of, document_variance, gains_of_settings

MOST_PAIRED = 40
"""Runs whose documents are read, and which are compared with their matched controls."""
NOT_SHARED = ("anneal", "arm", "anneal.shape", "anneal.final_fraction", "anneal.hold_steps")
"""Choices in which an anneal and its matched control differ; with `anneal.optimizer=keep` also WARMED."""
WARMED = ("anneal.peak_lr", "anneal.peak_scale", "anneal.warmup_steps")
IDENTITY = {
    "checkpoint_name": "checkpoint",
    "checkpoint": "checkpoint_digest",
    "name": "run",
    "run": "key",
    "arm": "arm",
}
"""Column of the runs that says which run it is -> field of a comparison."""

PairedDocuments = Callable[[pd.Series, pd.Series | None, Sequence[Outcome]], Iterable[tuple[Outcome, Pair]]]
"""The pairs of a run's outcomes: before and after it, or after another run and after it."""


@dataclass(frozen=True)
class Gains:
    """All comparisons of a report."""

    of_runs: tuple[Gain, ...]
    of_settings: tuple[Gain, ...]
    """One for each setting, over its seeds and documents together; of the outcomes that are looked at closely."""


@dataclass(frozen=True)
class _Closely:
    """What is looked at document by document."""

    tested: frozenset[Outcome]
    """Outcomes whose gains get a test on documents."""
    read: tuple[Outcome, ...]
    """These, and the members of the suites' means."""
    suites: Mapping[Outcome, Sequence[Outcome]]


def all_gains(
    runs: pd.DataFrame, choices: Sequence[str], outcomes: Sequence[Outcome], paired: PairedDocuments
) -> Gains:
    """The gain of every finished run over its checkpoint. MOST_PAIRED runs also get one over their control.

    The MOST_PAIRED runs are those of the best settings by the first primary outcome; they are tested on documents.
    """
    primary, suites = primary_outcomes(outcomes), suite_members(runs, outcomes)
    tested = dict.fromkeys((*primary, *chosen_outcomes(runs, outcomes)))
    read = tuple(dict.fromkeys((*tested, *(task for tasks in suites.values() for task in tasks))))
    closely, settings = _Closely(frozenset(tested), read, suites), _settings(runs, choices)
    gains = {(g.key, g.against, g.outcome): g for g in _over_checkpoint(runs, dict.fromkeys((*outcomes, *read)))}
    controls, documents = matched_controls(runs, choices), dict[Of, float]()
    trained = runs[runs["arm"].isin(("decay", "merge", "constant"))]
    for setting, group in _best_first(trained.assign(setting=settings), primary).groupby("setting", sort=False):
        seeds: dict[tuple[str, Outcome], list[Floats]] = defaultdict(list)
        for index, row in group.iterrows():
            control = runs.loc[controls[index]] if index in controls else None
            for found, outcome, difference in _of_run(row, control, gains, closely, paired):
                gains[found.key, found.against, found.outcome] = found
                if difference is not None:
                    seeds[found.against, outcome].append(difference)
        whole = {of: read_of for of, read_of in seeds.items() if len(read_of) == (settings == setting).sum() > 1}
        documents |= {(str(setting), *of): variance for of, variance in _documents(whole, suites).items()}
    listed, names = tuple(gains.values()), {outcome.name for outcome in tested}
    of_key = dict(zip(runs["run"], settings, strict=True))
    return Gains(listed, gains_of_settings((g for g in listed if g.outcome in names), of_key, documents))


def _settings(runs: pd.DataFrame, choices: Sequence[str]) -> pd.Series:
    """The setting of each run: all its choices but the seed."""
    names = [name for name in choices if name != "seed" and runs[name].nunique(dropna=False) > 1]
    rows = runs[names].itertuples(index=False, name=None)  # a choice that some runs lack is NaN, which is no text
    return pd.Series([repr(row) for row in rows] if names else "", index=runs.index)


def _best_first(trained: pd.DataFrame, primary: Sequence[Outcome]) -> pd.DataFrame:
    """The MOST_PAIRED runs of the best settings, those of a setting together."""
    if primary and (delta := primary[0].column("delta")) in trained:
        mean = trained.groupby("setting", sort=False)[delta].transform("mean")
        trained = trained.assign(mean=mean * -primary[0].sign).sort_values(["mean", "setting"])
    return trained.head(MOST_PAIRED)


def _of_run(
    row: pd.Series,
    control: pd.Series | None,
    gains: Mapping[tuple[str, str, str], Gain],
    closely: _Closely,
    paired: PairedDocuments,
) -> Iterator[tuple[Gain, Outcome, Floats | None]]:
    """The gains of a run that its documents give or test, with the differences of the documents."""
    for outcome, pair in paired(row, None, closely.read):
        known = gains.get((row["run"], "checkpoint", outcome.name))
        if known is not None:
            yield _tested(known, outcome, pair, closely), outcome, pair[1] - pair[0]
    if control is None:
        return
    errors: dict[Outcome, float] = {}
    for outcome, pair in paired(row, control, closely.read):
        difference = pair[1] - pair[0]
        errors[outcome] = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        yield (
            _tested(_over_control(row, control, outcome, errors[outcome]), outcome, pair, closely),
            outcome,
            difference,
        )
    for suite, tasks in closely.suites.items():
        if set(tasks) <= set(errors):
            stderr = float(np.sqrt(sum(errors[task] ** 2 for task in tasks))) / len(tasks)
            yield _over_control(row, control, suite, stderr), suite, None


def _tested(gain: Gain, outcome: Outcome, pair: Pair, closely: _Closely) -> Gain:
    return with_document_test(gain, pair) if outcome in closely.tested else gain


def _documents(
    seeds: Mapping[tuple[str, Outcome], Sequence[Floats]], suites: Mapping[Outcome, Sequence[Outcome]]
) -> dict[tuple[str, str], float]:
    """(reference, outcome) -> what its documents add to the variance of the mean over seeds; tasks are independent."""
    of_tasks = {of: document_variance(differences) for of, differences in seeds.items()}
    variances = {(against, outcome.name): variance for (against, outcome), variance in of_tasks.items()}
    for against in dict.fromkeys(against for against, _ in seeds):
        for suite, tasks in suites.items():
            if all((against, task) in of_tasks for task in tasks):
                variances[against, suite.name] = sum(of_tasks[against, task] for task in tasks) / len(tasks) ** 2
    return variances


def matched_controls(runs: pd.DataFrame, choices: Sequence[str]) -> dict[int, int]:
    """Row of an anneal -> row of its matched control, among finished runs; `choices` are the columns of params."""
    shared = [c for c in choices if c not in NOT_SHARED and c not in WARMED and runs[c].nunique(dropna=False) > 1]

    def identity(row: pd.Series) -> tuple[str, ...]:
        warmed = WARMED if row["anneal.optimizer"] == "fresh" else ()
        return tuple(repr(row[c]) for c in (*shared, *warmed))

    anneals, controls = (
        {i: identity(row) for i, row in runs[runs["arm"] == arm].iterrows()} for arm in ("decay", "constant")
    )
    rows = {identity: i for i, identity in controls.items()}
    return {i: rows[identity] for i, identity in anneals.items() if identity in rows}


def _comparison(identity: Iterable[Any], against: str, outcome: Outcome) -> Comparison:
    """The comparison of the run that these values of IDENTITY say."""
    return Comparison(**dict(zip(IDENTITY.values(), identity, strict=True)), against=against, outcome=outcome.name)


def _over_checkpoint(runs: pd.DataFrame, outcomes: Iterable[Outcome]) -> list[Gain]:
    gains = []
    for outcome in outcomes:
        columns = [outcome.column("before"), outcome.column("after"), outcome.stderr("delta")]
        if set(columns) <= set(runs):
            rows = runs.dropna(subset=columns)[[*IDENTITY, *columns]]
            for *identity, first, second, stderr in rows.itertuples(index=False):
                gains.append(gain(_comparison(identity, "checkpoint", outcome), first, second, stderr))
    return gains


def _over_control(row: pd.Series, control: pd.Series, outcome: Outcome, stderr: float) -> Gain:
    column = outcome.column("after")
    first, second = float(control[column]), float(row[column])
    return gain(_comparison(row[[*IDENTITY]], "constant", outcome), first, second, stderr)
