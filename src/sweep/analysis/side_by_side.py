"""Several sweeps side by side: which choices differ, and by how much the settings that they share differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.answers import Answers
from sweep.analysis.factors import NOT_AXES, Floats
from sweep.analysis.opening import leading_first
from sweep.analysis.outcomes import Outcome
from sweep.analysis.wording import amount, capital, listed, words

LEAST_SHARED = 2
"""Settings that two sweeps must share for an interval of their difference."""
MOST_LEVELS, MOST_CHOICES = 6, 8
"""That a sentence, and the answer, name."""


@dataclass(frozen=True, kw_only=True)
class SweepDifference:
    """How much a later sweep of a report gained beyond the one before, in one outcome, at the settings of both."""

    outcome: str
    first: str
    second: str
    shared: int
    """That both have: the same checkpoint and choices, but for those that differ between the sweeps as a whole."""
    first_gain: float
    """Mean over these settings, with the sign that makes more better."""
    second_gain: float
    difference: float
    low: float | None
    """Lower end of the 95 % interval over settings; None if the sweeps share fewer than two."""
    high: float | None


def changed_choices(sweeps: Mapping[str, pd.DataFrame], params: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Choice -> its levels in each sweep, of the choices in which the anneals of the sweeps differ as a whole."""
    changed = {}
    for name in (p for p in params if p not in NOT_AXES or p == "seed"):
        levels = [_levels(runs[runs["arm"] == "decay"], name) for runs in sweeps.values()]
        if len(set(levels)) > 1:
            changed[name] = levels
    return {name: tuple(_text(of_sweep) for of_sweep in levels) for name, levels in changed.items()}


def sweep_differences(
    sweeps: Mapping[str, pd.DataFrame], params: Sequence[str], outcomes: Sequence[Outcome]
) -> list[SweepDifference]:
    """Each sweep against the one before it, for each outcome that both have."""
    differences = []
    for (first, one), (second, two) in pairwise(sweeps.items()):
        for outcome in outcomes:
            column = outcome.column("delta")
            if column in one and column in two:
                pairs = _pairs(_anneals(one, column), _anneals(two, column), params, column) * outcome.sign
                if len(pairs):
                    differences.append(_difference(outcome, first, second, pairs))
    return differences


def side_by_side(
    answers: Answers, sweeps: Mapping[str, pd.DataFrame], params: Sequence[str]
) -> tuple[list[str], list[SweepDifference]]:
    """What changed between the sweeps, in sentences, and the differences as a table."""
    differences = sweep_differences(sweeps, params, leading_first(answers))
    return [*_choices(sweeps, params), *_gains(answers, differences)], differences


def _choices(sweeps: Mapping[str, pd.DataFrame], params: Sequence[str]) -> Iterator[str]:
    changed = changed_choices(sweeps, params)
    for name, levels in [*changed.items()][:MOST_CHOICES]:
        yield f"{name}: {'; '.join(f'{level} in {sweep}' for sweep, level in zip(sweeps, levels, strict=True))}."
    if len(changed) > MOST_CHOICES:
        yield f"{len(changed) - MOST_CHOICES} more choices differ: {listed([*changed][MOST_CHOICES:], MOST_LEVELS)}."
    if not changed:
        yield f"The sweeps {listed(list(sweeps))} vary the same choices over the same levels."


def _gains(answers: Answers, differences: Sequence[SweepDifference]) -> Iterator[str]:
    named = {outcome.name: outcome for outcome in answers.primary}
    for d in differences:
        outcome = named[d.outcome]
        half = None if d.low is None else d.difference - d.low
        sure = ", which is not told from none" if half is not None and abs(d.difference) <= half else ""
        yield (
            f"{capital(words(outcome))}: at the {d.shared} settings of both, anneals of {d.second} gain"
            f" {amount(outcome, d.second_gain)} and those of {d.first} {amount(outcome, d.first_gain)}: a difference of"
            f" {amount(outcome, d.difference, half)}{sure}."
        )
    if not differences:
        yield "No setting is in both sweeps, so their gains can't be compared setting by setting."


def _levels(runs: pd.DataFrame, name: str) -> tuple[object, ...]:
    """The levels that a sweep's runs have, sorted."""
    levels = runs[name].drop_duplicates().tolist() if name in runs else []
    return tuple(sorted(levels, key=lambda level: (isinstance(level, str), level)))


def _text(levels: Sequence[object]) -> str:
    names = [f"{level:g}" if isinstance(level, float) else str(level) for level in levels]
    return listed(names, MOST_LEVELS) if names else "not a choice"


def _anneals(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    runs = runs[(runs["status"] == "finished") & (runs["arm"] == "decay")]
    return runs.dropna(subset=[column])


def _pairs(one: pd.DataFrame, two: pd.DataFrame, params: Sequence[str], column: str) -> Floats:
    """(N, 2) the mean gains of the N settings that both sweeps have.

    A choice that is one level in each sweep, and not the same, is what changed: settings are paired over it.
    """
    shared = [name for name in params if name not in NOT_AXES and name in one and name in two]
    shared = [n for n in shared if one[n].nunique(dropna=False) > 1 or two[n].nunique(dropna=False) > 1]
    keys = [*shared, "checkpoint"] if set(one["checkpoint"]) & set(two["checkpoint"]) else shared
    if not keys:
        return np.array([[one[column].mean(), two[column].mean()]]) if len(one) and len(two) else np.empty((0, 2))
    means = [runs.groupby(keys, dropna=False)[column].mean() for runs in (one, two)]
    return pd.concat(means, axis=1, join="inner").to_numpy(dtype=float)


def _difference(outcome: Outcome, first: str, second: str, pairs: Floats) -> SweepDifference:
    beyond, low, high = pairs[:, 1] - pairs[:, 0], None, None
    if len(beyond) >= LEAST_SHARED:
        half = float(stats.t.ppf(0.975, len(beyond) - 1) * beyond.std(ddof=1) / np.sqrt(len(beyond)))
        low, high = float(beyond.mean()) - half, float(beyond.mean()) + half
    return SweepDifference(
        outcome=outcome.name,
        first=first,
        second=second,
        shared=len(beyond),
        first_gain=float(pairs[:, 0].mean()),
        second_gain=float(pairs[:, 1].mean()),
        difference=float(beyond.mean()),
        low=low,
        high=high,
    )
