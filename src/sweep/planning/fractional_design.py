"""A fractional factorial design: the points of a grid from which so many runs estimate the effects best.

Bayesian D-optimal exchange (DuMouchel and Jones 1994, Technometrics 36): main effects are estimated, and two-way
interactions as far as the number of runs allows; at two levels it finds the classical fractions (resolution IV, V).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_CANDIDATES = 4096
"""From a larger grid, this many candidate points are drawn at random."""
MOST_COLUMNS = 200
"""With more columns than this, only main effects are estimated."""
STARTS, BUDGET = 8, 4e9
"""The search starts from at most STARTS random designs, fewer where all together cost more than BUDGET operations per
pass: it takes a few seconds at most."""
WEAK = 16.0
"""Prior precision of an interaction, in runs: interactions count less than main effects."""
TINY = 1e-3
"""Prior precision of the main effects: it keeps the matrix regular for a start that can't estimate all of them."""


def fraction(levels: Sequence[int], runs: int, seed: int) -> list[tuple[int, ...]]:
    """`runs` different points of the grid in its order, each with the index of a level for every axis."""
    grid = _candidates(levels, runs, seed)
    columns, main = _columns(grid, levels)
    prior = np.where(np.arange(columns.shape[1]) < main, TINY, WEAK)
    rng = np.random.default_rng(seed)
    starts = max(1, min(STARTS, int(BUDGET / (columns.size * columns.shape[1] * runs))))
    designs = [_exchanged(columns, prior, rng.permutation(len(grid))[:runs]) for _ in range(starts)]
    best = max(designs, key=lambda rows: round(_information(columns[rows], prior), 9))
    return [tuple(int(level) for level in grid[i]) for i in sorted(best)]


def _candidates(levels: Sequence[int], runs: int, seed: int) -> NDArray[np.int64]:
    """(C, K) candidate points of the grid, for K axes."""
    size, most = prod(levels), max(MOST_CANDIDATES, runs)
    drawn = np.random.default_rng(seed).choice(size, min(size, most), replace=False)
    chosen = np.sort(drawn)
    return np.stack(np.unravel_index(chosen, tuple(levels)), axis=1) if levels else np.zeros((1, 0), dtype=np.int64)


def _columns(grid: NDArray[np.int64], levels: Sequence[int]) -> tuple[Floats, int]:
    """(C, P) constant, main effects and two-way interactions, orthonormal over the grid; then how many are not
    interactions."""
    coded = []
    for axis, size in enumerate(levels):
        contrasts = np.linalg.qr(np.vander(np.arange(size) - (size - 1) / 2, size, increasing=True))[0][:, 1:]
        coded.append(np.sqrt(size) * contrasts[grid[:, axis]])
    blocks = [np.ones((len(grid), 1)), *coded]
    main = sum(block.shape[1] for block in blocks)
    if main + sum(a.shape[1] * b.shape[1] for a, b in combinations(coded, 2)) > MOST_COLUMNS:
        return np.concatenate(blocks, axis=1), main
    blocks += [(a[:, :, None] * b[:, None, :]).reshape(len(grid), -1) for a, b in combinations(coded, 2)]
    return np.concatenate(blocks, axis=1), main


def _exchanged(columns: Floats, prior: Floats, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows after each has been exchanged for the unused one that adds most information, until none adds any."""
    rows, improved = start.copy(), True
    while improved:
        improved = False
        for i in range(len(rows)):
            inverse = np.linalg.inv(columns[rows].T @ columns[rows] + np.diag(prior))
            old = columns[rows[i]] @ inverse
            away, cross = old @ columns[rows[i]], columns @ old
            own = ((columns @ inverse) * columns).sum(1)
            ratio = (1 + own) * (1 - away) + cross**2
            ratio[rows] = 0.0
            if ratio.max() > 1 + 1e-9:
                rows[i], improved = int(ratio.argmax()), True
    return rows


def _information(columns: Floats, prior: Floats) -> float:
    """Log-determinant of the information matrix."""
    return float(np.linalg.slogdet(columns.T @ columns + np.diag(prior))[1])
