"""The design of a sweep: which choices vary, at which levels, and how they are coded as columns of a linear model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.planning.designs import log_by_rule
from sweep.planning.names import NOT_AXES

Floats = NDArray[np.float64]
MAX_LEVELS, FEW_LEVELS = 8, 3
"""A numeric axis with more levels than the first is continuous; one with no more than the second never is."""
SIZE = "model.parameters"
"""Named beside the axis `model`: what is said of the model may be an effect of its size."""
OPTIONS = ("model", "data")
"""Choices of an option of a group; leaves of the group that the option alone decides are no choices of their own."""
NAMED_FIRST = ("model", "checkpoint.step", "checkpoint.path", "data", "anneal.steps", "anneal.shape", "anneal.peak_lr")
"""Axes that move together are named by the one that is first in this order."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One choice that varies over a sweep."""

    name: str
    """Its dotted name."""
    levels: tuple[Any, ...]
    """Numbers ascend; texts are in the order of the alphabet."""
    numeric: bool
    moves_with: tuple[str, ...] = ()
    """Choices that change exactly when this one does, so that their effects can't be separated from its effect."""
    drawn: bool = False
    """Whether nearly every setting has a level of its own, as if the numbers were drawn from a range."""

    @property
    def continuous(self) -> bool:
        """Whether it has too many levels to estimate the effect of each one."""
        return self.numeric and (self.drawn or len(self.levels) > MAX_LEVELS)

    @property
    def log(self) -> bool:
        """Whether ratios of its levels matter rather than differences."""
        return self.numeric and log_by_rule(self.levels[0], self.levels[-1])

    def scaled(self, values: Any) -> Floats:
        """Values mapped to -1 at the lowest level and 1 at the highest, in the logarithm if ratios matter."""
        numbers, ends = np.asarray(values, dtype=float), np.asarray([self.levels[0], self.levels[-1]], dtype=float)
        if self.log:
            numbers, ends = np.log(numbers), np.log(ends)
        return 2 * (numbers - ends[0]) / (ends[1] - ends[0]) - 1

    def places(self, values: pd.Series) -> NDArray[np.int64]:
        """The index of each value among the levels."""
        return values.map({level: i for i, level in enumerate(self.levels)}).to_numpy()

    def columns(self, values: pd.Series) -> Floats:
        """(N, C) sum-to-zero coding of the levels; the number and its square if the axis is continuous."""
        if self.continuous:
            z = self.scaled(values)
            return np.stack([z, z**2 - 1 / 3], axis=1)
        others = len(self.levels) - 1
        return np.concatenate([np.eye(others), -np.ones((1, others))])[self.places(values)]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A main effect or a two-way interaction, and its columns of the model."""

    axes: tuple[str, ...]
    columns: slice

    @property
    def name(self) -> str:
        """The axes joined by a colon, as in the tables of R and statsmodels."""
        return ":".join(self.axes)


@dataclass(frozen=True)
class Design:
    """The columns of a linear model, and which of them belong to which term."""

    columns: Floats
    """(N, P); the first is the constant."""
    terms: tuple[Term, ...]

    @property
    def main_width(self) -> int:
        """Number of columns of the constant and the main effects, which come first."""
        return max((term.columns.stop for term in self.terms if len(term.axes) == 1), default=1)


def varying_axes(runs: pd.DataFrame, names: Sequence[str]) -> tuple[Axis, ...]:
    """The choices among `names` that vary. Choices that move together are one axis, named by the first of them."""
    ordered = sorted(names, key=lambda name: NAMED_FIRST.index(name) if name in NAMED_FIRST else len(NAMED_FIRST))
    partitions = {
        name: pd.factorize(runs[name], use_na_sentinel=False)[0]
        for name in ordered
        if name not in NOT_AXES and not name.startswith("tasks") and name in runs
    }
    partitions = {
        name: partition
        for name, partition in partitions.items()
        if len(set(partition)) > 1 and not _follows(name, partition, partitions)
    }
    settings = len(pd.DataFrame(partitions).drop_duplicates())
    together: dict[tuple[int, ...], list[str]] = {}
    for name, partition in partitions.items():
        key = tuple(partition)
        if key not in together and _are_drawn(runs[name], settings):
            # drawn values are all distinct, so two axes move together if they put the runs in the same order
            ranks = runs[name].rank(method="dense").to_numpy(dtype=int)
            key = min(tuple(ranks), tuple(ranks.max() + 1 - ranks))
        together.setdefault(key, []).append(name)
    several = len(together) > 1
    return tuple(
        _axis(runs[first], others, drawn=several and _are_drawn(runs[first], settings))
        for first, *others in together.values()
    )


def _follows(name: str, partition: NDArray[np.int64], partitions: Mapping[str, NDArray[np.int64]]) -> bool:
    """Whether the option of its group decides the leaf `name`."""
    group = name.partition(".")[0]
    if group == name or name == SIZE or group not in OPTIONS or group not in partitions:
        return False
    return len(set(zip(partitions[group], partition, strict=True))) == len(set(partitions[group]))


def _are_drawn(values: pd.Series, settings: int) -> bool:
    """Whether these are numbers that hardly two of the settings share."""
    levels = values.nunique(dropna=False)
    return pd.api.types.is_numeric_dtype(values.infer_objects()) and levels > max(FEW_LEVELS, settings / 2)


def _axis(values: pd.Series, moves_with: Sequence[str], *, drawn: bool) -> Axis:
    levels = list(dict.fromkeys(values))
    numeric = all(isinstance(level, int | float | np.number) and not isinstance(level, bool) for level in levels)
    ordered = sorted(levels) if numeric else sorted(levels, key=str)
    return Axis(
        name=str(values.name),
        levels=tuple(ordered),
        numeric=numeric,
        moves_with=tuple(moves_with),
        drawn=drawn and numeric,
    )


def design(coded: Mapping[str, Floats], axes: Sequence[Axis]) -> Design:
    """The constant, every main effect and every two-way interaction; `coded` has the columns of each axis.

    With more than two axes the interactions are left out if they could explain any values of so few settings.
    """
    settings = len(next(iter(coded.values())))
    blocks: dict[tuple[str, ...], Floats] = {(name,): block for name, block in coded.items()}
    for pair in combinations(axes, 2):
        first, second = (coded[axis.name][:, :1] if axis.continuous else coded[axis.name] for axis in pair)
        products = first[:, :, None] * second[:, None, :]
        blocks[pair[0].name, pair[1].name] = products.reshape(settings, -1)
    whole = _joined(blocks, settings)
    rank = np.linalg.matrix_rank(whole.columns.T @ whole.columns, hermitian=True)
    estimable = rank == whole.columns.shape[1] or rank < settings or len(axes) == 2
    return whole if estimable else _joined({axes: coded[axes[0]] for axes in blocks if len(axes) == 1}, settings)


def _joined(blocks: Mapping[tuple[str, ...], Floats], settings: int) -> Design:
    terms, width = [], 1
    for names, block in blocks.items():
        terms.append(Term(axes=names, columns=slice(width, width + block.shape[1])))
        width += block.shape[1]
    return Design(np.concatenate([np.ones((settings, 1)), *blocks.values()], axis=1), tuple(terms))
