"""Did annealing help? Differences on the same documents, with intervals, tests, and the least detectable difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Floats
from sweep.analysis.outcomes import Outcome, chosen_outcomes, primary_outcomes, sign_of, suite_members

Z = float(stats.norm.ppf(0.975))
POWER = float(stats.norm.ppf(0.8))
RESAMPLES = 2000
AT_ONCE = 2**20
"""Documents drawn at a time over all resamples, so that memory doesn't grow with the number of documents."""
LEVEL = 0.05
BETTER, WORSE, ALIKE = "better", "worse", "not told apart"
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

Pair = tuple[Floats, Floats]
"""The values (D,) of one outcome on the same documents, of the reference and of the run."""
PairedDocuments = Callable[[pd.Series, pd.Series | None, Sequence[Outcome]], Iterable[tuple[Outcome, Pair]]]
"""The pairs of a run's outcomes: before and after it, or after another run and after it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One outcome of one run, and what it is compared with."""

    checkpoint: str
    checkpoint_digest: str
    run: str
    key: str
    """The run's key: names are for people, and several sweeps may use the same ones."""
    arm: str
    against: str
    """`checkpoint` for the checkpoint itself, or `constant` for the matched control."""
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Gain(Comparison):
    """The difference between the two scores of a comparison."""

    first: float
    """The score that the run is compared with."""
    second: float
    """The score of the run."""
    delta: float
    """second - first."""
    stderr: float
    low: float
    """Lower end of the 95 % interval over documents; McNemar's test has none, so there it is that of z."""
    high: float
    detectable: float
    """The smallest true difference that a test at 5 % would detect in 4 of 5 cases."""
    test: str
    """McNemar, bootstrap, or z if only the standard error is known."""
    p_value: float
    verdict: str
    """BETTER, WORSE, or ALIKE if the test finds no difference at 5 %."""


def gain(comparison: Comparison, first: float, second: float, stderr: float) -> Gain:
    """The difference second - first with a z-test."""
    delta = second - first
    p_value = math.erfc(abs(delta) / stderr / math.sqrt(2)) if stderr > 0 else float(delta == 0)
    return Gain(
        **vars(comparison),
        first=first,
        second=second,
        delta=delta,
        stderr=stderr,
        low=delta - Z * stderr,
        high=delta + Z * stderr,
        detectable=(Z + POWER) * stderr,
        test="z",
        p_value=p_value,
        verdict=_verdict(comparison, delta, p_value),
    )


def _verdict(comparison: Comparison, delta: float, p_value: float) -> str:
    if delta == 0 or p_value >= LEVEL:
        return ALIKE
    return BETTER if delta * sign_of(comparison.outcome.partition("/")[0]) > 0 else WORSE


def with_document_test(gain: Gain, pair: Pair) -> Gain:
    """The same gain with a test on its documents: McNemar's if each is right or wrong, else the bootstrap."""
    if gain.outcome.startswith("acc") and np.isin(np.concatenate(pair), (0.0, 1.0)).all():
        p_value = mcnemar(*pair)
        return replace(gain, test="McNemar", p_value=p_value, verdict=_verdict(gain, gain.delta, p_value))
    low, high, p_value = bootstrap(pair[1] - pair[0])
    verdict = _verdict(gain, gain.delta, p_value)
    return replace(gain, test="bootstrap", low=low, high=high, p_value=p_value, verdict=verdict)


def mcnemar(first: Floats, second: Floats) -> float:
    """The exact two-sided p-value, if documents become right as often as they become wrong."""
    better, worse = int((second > first).sum()), int((second < first).sum())
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def bootstrap(difference: Floats) -> tuple[float, float, float]:
    """The 95 % percentile interval of the mean difference over documents, and the two-sided p-value of no difference.

    Written out because `scipy.stats.bootstrap` would save three lines and take half as long again: it draws indices of
    8 bytes where these have 4.
    """
    if np.ptp(difference) == 0:
        mean = float(difference[0])
        return mean, mean, float(mean == 0)
    rng, number = np.random.default_rng(0), len(difference)
    at_once = max(1, AT_ONCE // number)
    sizes = (min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once))
    drawn = (rng.integers(number, size=(size, number), dtype=np.int32) for size in sizes)
    means = np.concatenate([difference[documents].mean(1) for documents in drawn])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1)))


def all_gains(
    runs: pd.DataFrame, choices: Sequence[str], outcomes: Sequence[Outcome], paired: PairedDocuments
) -> tuple[Gain, ...]:
    """The gain of every finished run over its checkpoint. MOST_PAIRED runs also get one over their control.

    The MOST_PAIRED runs are the best by the first primary outcome; their gains are tested on documents.
    """
    primary = primary_outcomes(outcomes)
    closely = (*primary, *chosen_outcomes(runs, outcomes))
    over_checkpoint = {(g.key, g.outcome): g for g in _over_checkpoint(runs, dict.fromkeys((*outcomes, *closely)))}
    controls, suites = matched_controls(runs, choices), suite_members(runs, outcomes)
    trained = runs[runs["arm"].isin(("decay", "merge", "constant"))]
    if primary and primary[0].column("delta") in trained:
        trained = trained.sort_values(primary[0].column("delta"), ascending=primary[0].sign < 0)
    over_control: list[Gain] = []
    for index, row in trained.head(MOST_PAIRED).iterrows():
        for outcome, pair in paired(row, None, closely):
            key = row["run"], outcome.name
            if key in over_checkpoint:
                over_checkpoint[key] = with_document_test(over_checkpoint[key], pair)
        if index in controls:
            control = runs.loc[controls[index]]
            over_control += _over_control(row, control, paired(row, control, closely), suites)
    return (*over_checkpoint.values(), *over_control)


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


def _over_control(
    row: pd.Series,
    control: pd.Series,
    documents: Iterable[tuple[Outcome, Pair]],
    suites: Mapping[Outcome, Sequence[Outcome]],
) -> list[Gain]:
    """The gains in the outcomes that have documents, and in the suites whose tasks all have documents."""

    def over_control(outcome: Outcome, stderr: float) -> Gain:
        column = outcome.column("after")
        return gain(
            _comparison(row[[*IDENTITY]], "constant", outcome), float(control[column]), float(row[column]), stderr
        )

    errors: dict[Outcome, float] = {}
    gains = []
    for outcome, pair in documents:
        difference = pair[1] - pair[0]
        errors[outcome] = float(difference.std(ddof=1) / np.sqrt(len(difference)))
        gains.append(with_document_test(over_control(outcome, errors[outcome]), pair))
    for suite, tasks in suites.items():
        if set(tasks) <= set(errors):
            stderr = float(np.sqrt(sum(errors[task] ** 2 for task in tasks))) / len(tasks)
            gains.append(over_control(suite, stderr))
    return gains
