"""The design of a sweep: which choices vary, at which levels, and their coding as columns of a linear model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.planning.designs import log_by_rule

Floats = NDArray[np.float64]
MAX_LEVELS, FEW_LEVELS = 8, 3
"""A number with more levels than this is a continuous axis, straight line and square; with few it never is."""
NOT_AXES = ("seed", "arm", "anneal", "anneal.save_interval", "anneal.keep", "compute.activation_checkpointing")
"""What decides no number of a run, is noise, or is the arm itself (`keys.run_key` leaves the same out)."""
FIRST = ("model", "checkpoint.step", "checkpoint.path", "data", "anneal.steps", "anneal.shape", "anneal.peak_lr")
"""Of axes that move together the first is named, these before all others."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One choice that varies over a sweep."""

    name: str
    """Dotted."""
    levels: tuple[Any, ...]
    """Ascending where they are numbers."""
    numeric: bool
    with_it: tuple[str, ...] = ()
    """Choices that move exactly with this one, and can't be told apart from it."""

    drawn: bool = False
    """Whether hardly two settings share a level, as where numbers were drawn from a range."""

    @property
    def continuous(self) -> bool:
        """Whether it has too many levels to look at each."""
        return self.numeric and (self.drawn or len(self.levels) > MAX_LEVELS)

    @property
    def log(self) -> bool:
        """Whether ratios count, not differences."""
        return self.numeric and log_by_rule(self.levels[0], self.levels[-1])

    def scaled(self, values: Any) -> Floats:
        """Numbers of this axis from -1 at its lowest level to 1 at its highest, in the logarithm where ratios count."""
        numbers, ends = np.asarray(values, dtype=float), np.asarray([self.levels[0], self.levels[-1]], dtype=float)
        if self.log:
            numbers, ends = np.log(numbers), np.log(ends)
        return 2 * (numbers - ends[0]) / (ends[1] - ends[0]) - 1

    def columns(self, values: pd.Series) -> Floats:
        """(N, C) coding: sums to zero over the levels; of a continuous axis the number and its square."""
        if self.continuous:
            z = self.scaled(values)
            return np.stack([z, z**2 - 1 / 3], axis=1)
        place = values.map({level: i for i, level in enumerate(self.levels)}).to_numpy()
        return np.concatenate([np.eye(len(self.levels) - 1), -np.ones((1, len(self.levels) - 1))])[place]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A main effect or a two-way interaction, and its columns of the model."""

    axes: tuple[str, ...]
    columns: slice

    @property
    def name(self) -> str:
        """The axes joined by a colon, as R's and statsmodels' tables have it."""
        return ":".join(self.axes)


def axes(runs: pd.DataFrame, names: Sequence[str]) -> tuple[Axis, ...]:
    """The choices among `names` that vary; of those that move together the first, the others named with it."""
    ordered = sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    partitions = {
        name: pd.factorize(runs[name], use_na_sentinel=False)[0]
        for name in ordered
        if name not in NOT_AXES and not name.startswith("tasks") and name in runs
    }
    partitions = {name: partition for name, partition in partitions.items() if len(set(partition)) > 1}
    settings = len(pd.DataFrame(partitions).drop_duplicates())
    found: dict[tuple[int, ...], list[str]] = {}
    for name, partition in partitions.items():
        key = tuple(partition)
        if key not in found and _are_drawn(runs[name], settings):  # no two alike: together is in one order
            ranks = runs[name].rank(method="dense").to_numpy(dtype=int)
            key = min(tuple(ranks), tuple(ranks.max() + 1 - ranks))
        found.setdefault(key, []).append(name)
    among = settings if len(found) > 1 else None
    return tuple(axis(runs[first], others, among) for first, *others in found.values())


def _are_drawn(values: pd.Series, settings: int) -> bool:
    """Whether these are numbers of which hardly two of so many settings share one."""
    levels = values.nunique(dropna=False)
    return pd.api.types.is_numeric_dtype(values.infer_objects()) and levels > max(FEW_LEVELS, settings / 2)


def axis(values: pd.Series, with_it: Sequence[str] = (), settings: int | None = None) -> Axis:
    """The axis of one column, among so many settings of several axes; None: it is the only one."""
    levels = list(dict.fromkeys(values))
    numeric = all(isinstance(level, int | float | np.number) and not isinstance(level, bool) for level in levels)
    ordered = sorted(levels) if numeric else sorted(levels, key=str)
    drawn = settings is not None and numeric and _are_drawn(values, settings)
    return Axis(name=str(values.name), levels=tuple(ordered), numeric=numeric, with_it=tuple(with_it), drawn=drawn)


def coded(settings: pd.DataFrame, found: Sequence[Axis]) -> dict[str, Floats]:
    """(N, C) columns of each axis."""
    return {axis.name: axis.columns(settings[axis.name]) for axis in found}


def model(coded: Mapping[str, Floats], found: Sequence[Axis]) -> tuple[Floats, tuple[Term, ...]]:
    """(N, P) columns of the constant, every main effect and every two-way interaction, and where each of these is.

    Interactions of more than two axes are left out where they would explain any values of so few settings.
    """
    number = len(next(iter(coded.values())))
    blocks: list[Floats] = [np.ones((number, 1))]
    terms: list[Term] = []

    def add(names: tuple[str, ...], block: Floats) -> None:
        start = sum(b.shape[1] for b in blocks)
        blocks.append(block)
        terms.append(Term(axes=names, columns=slice(start, start + block.shape[1])))

    for name, block in coded.items():
        add((name,), block)
    kept = len(blocks)
    for first, second in combinations(found, 2):
        one, two = (coded[a.name][:, :1] if a.continuous else coded[a.name] for a in (first, second))
        add((first.name, second.name), (one[:, :, None] * two[:, None, :]).reshape(number, -1))
    whole = np.concatenate(blocks, axis=1)
    rank = np.linalg.matrix_rank(whole.T @ whole, hermitian=True)
    if rank == whole.shape[1] or rank < number or len(found) == 2:
        return whole, tuple(terms)
    return np.concatenate(blocks[:kept], axis=1), tuple(terms[: kept - 1])
