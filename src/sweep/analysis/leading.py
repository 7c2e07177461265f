"""Which measure of each suite can tell, accuracy or bits per byte: the one that anneals move by more of its errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import seed_noise
from sweep.planning.measures import BITS, MEAN, leading, why_leading

NEAR_CHANCE = 0.1
"""Below this part of the way from guessing to all right, an accuracy is said to be near chance."""


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The measure of a suite that comes first."""

    suite: str
    first: Outcome
    second: Outcome
    why: str
    """In a sentence or two."""


def leads(anneals: pd.DataFrame, params: Sequence[str], outcomes: Sequence[Outcome]) -> tuple[Lead, ...]:
    """A lead for each suite that has both measures; `params` are the columns of choices."""
    suites = [
        outcome.task for outcome in outcomes if outcome.metric == BITS and Outcome(MEAN, outcome.task) in outcomes
    ]
    return tuple(_lead(anneals, params, suite) for suite in suites)


def in_order(outcomes: Sequence[Outcome], leads: Sequence[Lead]) -> tuple[Outcome, ...]:
    """The outcomes with the two measures of each suite first, the leading one before the other."""
    return tuple(dict.fromkeys([*(of for lead in leads for of in (lead.first, lead.second)), *outcomes]))


def _lead(anneals: pd.DataFrame, params: Sequence[str], suite: str) -> Lead:
    both = {metric: Outcome(metric, suite) for metric in (BITS, MEAN)}
    moved = {metric: _moved(anneals, params, outcome) for metric, outcome in both.items()}
    bits, accuracy = moved[BITS], moved[MEAN]
    if bits is None or accuracy is None:
        sizes, tasks = _sizes(anneals), _tasks(anneals, suite)
        first, second = (both[metric] for metric in leading(sizes))
        return Lead(suite=suite, first=first, second=second, why=f"{suite}: {why_leading(sizes, tasks)}")
    order, names = (BITS, MEAN), ("bits per byte of the right answers", "accuracy")
    if accuracy > bits:
        order, names, (bits, accuracy) = (MEAN, BITS), names[::-1], (accuracy, bits)
    why = (
        f"{suite}: {names[0]} comes first. The middle anneal moves it by {bits:.2g} times its error, and"
        f" {names[1]} by {accuracy:.2g} times."
    )
    return Lead(suite=suite, first=both[order[0]], second=both[order[1]], why=why + _near_chance(anneals, suite))


def _moved(anneals: pd.DataFrame, params: Sequence[str], outcome: Outcome) -> float | None:
    """The median over anneals of |delta| in errors, over documents and seeds; None if no error is known."""
    delta, error = outcome.column("delta"), outcome.stderr("delta")
    if not {delta, error} <= set(anneals):
        return None
    runs = anneals[(anneals[error] > 0) & anneals[delta].notna()]
    if runs.empty:
        return None
    same = ["checkpoint", *(name for name in params if name in runs and name != "seed")]
    noise = seed_noise(runs.astype(dict.fromkeys(same, str)).groupby(same, sort=False)[delta])
    errors = np.hypot(runs[error], noise.sd if noise is not None else 0.0)
    return float((runs[delta].abs() / errors).median())


def _near_chance(anneals: pd.DataFrame, suite: str) -> str:
    above = Outcome("mean_above_chance", suite).column("before")
    way = float(anneals[above].mean()) if above in anneals else np.nan
    return f" Accuracy is near chance: {100 * way:.2g} % of the way from guessing to all right." * (way < NEAR_CHANCE)


def _sizes(anneals: pd.DataFrame) -> list[int | None]:
    column = anneals["model.parameters"] if "model.parameters" in anneals else pd.Series([None])
    numbers = pd.to_numeric(column, errors="coerce").unique()
    return [int(number) if np.isfinite(number) else None for number in numbers]


def _tasks(anneals: pd.DataFrame, suite: str) -> int:
    prefix = f"tasks.suites.{suite.partition(':')[0]}.metrics."
    return sum(str(column).startswith(prefix) for column in anneals)
