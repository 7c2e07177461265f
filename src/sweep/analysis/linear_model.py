"""A linear model of setting means: what its columns explain, and what an axis drawn at random would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.analysis.factors import Axis, Floats, model

SHUFFLES = 399
"""Other orders of a drawn axis's values that its own is held against, more where there are many axes."""
FEWEST, MOST = 6, 500
"""Settings from which there are orders enough, and up to which they are tried: with more, F is to be trusted."""


@dataclass(frozen=True)
class LinearModel:
    """Sums of squares of a linear model of setting means, weighted by their runs; M outcomes."""

    gram: Floats
    moment: Floats
    """(P, M)"""

    @classmethod
    def of(cls, columns: Floats, weight: Floats, means: Floats) -> LinearModel:
        """Of (C, P) columns, the runs in each setting (C,) and their means (C, M)."""
        weighted = columns * weight[:, None]
        return cls(weighted.T @ columns, weighted.T @ means)

    def explained(self, columns: Sequence[int]) -> tuple[Floats, int]:
        """(M,) sums of squares that these columns explain, and their rank."""
        value, vector = np.linalg.eigh(self.gram[np.ix_(columns, columns)])
        there = value > 1e-9 * value.max()
        return (((vector[:, there].T @ self.moment[columns]) ** 2) / value[there, None]).sum(0), int(there.sum())


def by_chance(coded: Mapping[str, Floats], found: Sequence[Axis], weight: Floats, means: Floats) -> dict[str, Floats]:
    """(M,) of each drawn axis, how often its values in another order explain as much, adjusted for their number.

    An inert axis's values were drawn without regard to anything, so that this holds whatever the model leaves over (a
    randomization test, as in Fisher's Design of Experiments, 1935), where F takes what is left over for noise. What is
    explained is that of the largest model with half as many columns as there are settings: with as many, any order
    explains all. Of FEWEST to MOST settings; none of others.
    """
    drawn = [axis.name for axis in found if axis.drawn]
    if not drawn or not FEWEST <= len(means) <= MOST:
        return {}
    rng, shuffles = np.random.default_rng(0), max(SHUFFLES, 40 * len(drawn))
    often: dict[str, Floats] = {}
    width = _width(coded, found)

    def explained(name: str, block: Floats) -> Floats:
        if width is None:
            columns = np.column_stack([np.ones(len(block)), block])
        else:
            columns = model({**coded, name: block}, found)[0][:, :width]
        return LinearModel.of(columns, weight, means).explained(range(columns.shape[1]))[0]

    for name in drawn:
        own = explained(name, coded[name])
        others = [explained(name, rng.permutation(coded[name])) for _ in range(shuffles)]
        often[name] = (1 + (np.array(others) >= own).sum(0)) / (1 + shuffles)
    return dict(zip(often, np.apply_along_axis(holm, 0, np.array([*often.values()])), strict=True))


def _width(coded: Mapping[str, Floats], found: Sequence[Axis]) -> int | None:
    """Columns of the model to explain by: all, those of axes alone, or None: the axis's own."""
    columns, terms = model(coded, found)
    alone = max(term.columns.stop for term in terms if len(term.axes) == 1)
    return next((width for width in (columns.shape[1], alone) if 2 * width <= len(columns)), None)


def holm(p_values: Floats) -> Floats:
    """Each adjusted for the number of them (Holm 1979)."""
    order = np.argsort(p_values)
    left = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, left * p_values[order]))
    return adjusted
