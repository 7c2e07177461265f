"""A linear model of the means of settings: what its columns explain, and what shuffled values of an axis explain.

Holm's method and the sums of squares are written out: SciPy has neither, and statsmodels would be one more dependency
for these few lines. It also fits each outcome by itself, and a report may have a hundred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sweep.analysis.factors import Axis, Floats, design

SHUFFLES = 399
"""Random orders that the values of a drawn axis are compared with; with many drawn axes there are more."""
FEWEST, MOST = 6, 500
"""Shuffles are made for this many settings. Fewer have too few orders, and with more the F test can be relied on."""


@dataclass(frozen=True)
class LinearModel:
    """The normal equations of a linear model of the means of settings, weighted by their runs, for M outcomes."""

    gram: Floats
    """(P, P)"""
    moment: Floats
    """(P, M)"""

    @classmethod
    def of(cls, columns: Floats, weight: Floats, means: Floats) -> LinearModel:
        """The model of columns (C, P), the number of runs of each setting (C,) and their means (C, M)."""
        weighted = columns * weight[:, None]
        return cls(weighted.T @ columns, weighted.T @ means)

    def explained(self, columns: Sequence[int]) -> tuple[Floats, int]:
        """The sums of squares (M,) that these columns explain, and their rank."""
        value, vector = np.linalg.eigh(self.gram[np.ix_(columns, columns)])
        kept = value > 1e-9 * value.max()
        return (((vector[:, kept].T @ self.moment[columns]) ** 2) / value[kept, None]).sum(0), int(kept.sum())


def shuffle_p_values(
    coded: Mapping[str, Floats], axes: Sequence[Axis], weight: Floats, means: Floats
) -> dict[str, Floats]:
    """For each drawn axis, how often its values in a random order explain as much, Holm-adjusted, (M,).

    This is a randomization test (Fisher, Design of Experiments, 1935). It holds whatever the model fails to explain,
    because the values of an inert axis were drawn independently of everything. The F test takes that remainder for
    noise. Each axis is tested in the largest model with at most half as many columns as settings, as a model with a
    column for each setting explains all values in any order. Empty outside FEWEST to MOST settings.
    """
    drawn = [axis.name for axis in axes if axis.drawn]
    if not drawn or not FEWEST <= len(means) <= MOST:
        return {}
    rng, shuffles = np.random.default_rng(0), max(SHUFFLES, 40 * len(drawn))
    whole = design(coded, axes)
    widths = (whole.columns.shape[1], whole.main_width)
    width = next((width for width in widths if 2 * width <= len(means)), None)

    def explained(name: str, block: Floats) -> Floats:
        if width is None:  # even the main effects are too many columns: the axis alone
            columns = np.column_stack([np.ones(len(block)), block])
        else:
            columns = design({**coded, name: block}, axes).columns[:, :width]
        return LinearModel.of(columns, weight, means).explained(range(columns.shape[1]))[0]

    p_values = []
    for name in drawn:
        own = explained(name, coded[name])
        others = [explained(name, rng.permutation(coded[name])) for _ in range(shuffles)]
        p_values.append((1 + (np.array(others) >= own).sum(0)) / (1 + shuffles))
    return dict(zip(drawn, holm(np.array(p_values)), strict=True))


def holm(p_values: Floats) -> Floats:
    """The p-values along the first axis, each adjusted for their number (Holm 1979)."""
    order = np.argsort(p_values, axis=0)
    steps = np.arange(len(p_values), 0, -1).reshape(-1, *[1] * (p_values.ndim - 1))
    ascending = np.minimum(1.0, steps * np.take_along_axis(p_values, order, axis=0))
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ascending, axis=0), axis=0)
    return adjusted
