"""Did it help? Differences on the same documents, with intervals, tests, and the least that could have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sweep.analysis.outcomes import Outcome

Floats = NDArray[np.float64]
Z = float(stats.norm.ppf(0.975))
POWER = float(stats.norm.ppf(0.8))
RESAMPLES = 2000
AT_ONCE = 2**20
"""Documents drawn at a time, over all resamples: memory doesn't grow with them."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """One outcome of one run, less that of what it is compared with, on the same documents."""

    checkpoint: str
    run: str
    arm: str
    against: str
    """checkpoint (no training), or constant (as many updates at the learning rate in force)."""
    outcome: str
    first: float
    second: float
    delta: float
    """second - first."""
    stderr: float
    low: float
    """Ends of the 95 % interval over documents."""
    high: float
    detectable: float
    """The smallest true difference that this comparison would have seen at 5 % in 4 of 5 cases."""
    test: str
    """McNemar, bootstrap, or z where only the standard error is at hand."""
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A run and what it is compared with."""

    checkpoint: str
    run: str
    arm: str
    against: str
    """checkpoint, or constant."""


def gain(
    outcome: Outcome,
    compared: Compared,
    *,
    first: float,
    second: float,
    stderr: float,
    documents: tuple[Floats, Floats] | None = None,
) -> Gain:
    """The comparison; `documents` are the outcome's values of each document, if they are at hand."""
    delta = second - first
    low, high, test = delta - Z * stderr, delta + Z * stderr, "z"
    p_value = math.erfc(abs(delta) / stderr / math.sqrt(2)) if stderr > 0 else float(delta == 0)
    if documents is not None:
        if outcome.metric.startswith("acc") and np.isin(np.concatenate(documents), (0.0, 1.0)).all():
            test, p_value = "McNemar", mcnemar(*documents)
        else:
            test = "bootstrap"
            low, high, p_value = bootstrap(documents[1] - documents[0])
    return Gain(
        **vars(compared),
        outcome=outcome.name,
        first=first,
        second=second,
        delta=delta,
        stderr=stderr,
        low=low,
        high=high,
        detectable=(Z + POWER) * stderr,
        test=test,
        p_value=p_value,
    )


def mcnemar(first: Floats, second: Floats) -> float:
    """Exact two-sided p-value of as many documents getting right as getting wrong."""
    better, worse = int((second > first).sum()), int((second < first).sum())
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def bootstrap(difference: Floats) -> tuple[float, float, float]:
    """95 % percentile interval of the mean difference over documents, and the two-sided p-value of none."""
    if np.ptp(difference) == 0:
        mean = float(difference[0])
        return mean, mean, float(mean == 0)
    rng, number = np.random.default_rng(0), len(difference)
    at_once = max(1, AT_ONCE // number)
    parts = (min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once))
    drawn = (rng.integers(number, size=(part, number), dtype=np.int32) for part in parts)
    means = np.concatenate([difference[documents].mean(1) for documents in drawn])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1)))


def from_checkpoint(runs: pd.DataFrame, found: Sequence[Outcome]) -> tuple[Gain, ...]:
    """Of every run that changed its checkpoint, what it gained on it; `runs` has `checkpoint`, `name` and `arm`."""
    made = []
    for outcome in found:
        columns = [outcome.column("before"), outcome.column("after"), outcome.stderr("delta")]
        if not set(columns) <= set(runs):
            continue
        mine = runs.dropna(subset=columns)
        for checkpoint, name, arm, first, second, stderr in mine[["checkpoint", "name", "arm", *columns]].itertuples(
            index=False
        ):
            compared = Compared(checkpoint=checkpoint, run=name, arm=arm, against="checkpoint")
            made.append(gain(outcome, compared, first=first, second=second, stderr=stderr))
    return tuple(made)


NOT_SHARED = ("anneal", "arm", "anneal.shape", "anneal.final_fraction", "anneal.hold_steps")
"""What an anneal and its constant arm differ in; with `anneal.optimizer=keep` also WARMED (`controls.CONSTANT`)."""
WARMED = ("anneal.peak_lr", "anneal.peak_scale", "anneal.warmup_steps")


def matched_controls(runs: pd.DataFrame, choices: Sequence[str]) -> dict[int, int]:
    """Row of an anneal -> row of its constant arm, among finished runs; `choices` are the params' columns."""
    shared = [c for c in choices if c not in NOT_SHARED and c not in WARMED and runs[c].nunique(dropna=False) > 1]

    def identity(row: pd.Series) -> tuple[str, ...]:
        warmed = WARMED if row["anneal.optimizer"] == "fresh" else ()
        return tuple(repr(row[c]) for c in (*shared, *warmed))

    wanted = runs[runs["arm"].isin(("decay", "constant"))]
    identities = {index: identity(row) for index, row in wanted.iterrows()}
    controls = {identities[i]: i for i in wanted.index[wanted["arm"] == "constant"]}
    return {i: controls[identities[i]] for i in wanted.index[wanted["arm"] == "decay"] if identities[i] in controls}
