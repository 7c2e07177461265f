"""A fraction of a factorial: the points of a grid that tell its axes apart best, by their number.

Bayesian D-optimal exchange (DuMouchel and Jones 1994, Technometrics 36): main effects are estimated, two-way
interactions as far as the runs allow; at two levels this finds the classical fractions (resolution IV, V).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_CANDIDATES = 4096
"""Of a larger grid, so many points drawn at random are chosen from."""
MOST_COLUMNS = 200
"""Of a larger model main effects are looked at alone."""
STARTS, BUDGET = 8, 4e9
"""Searches from other starts, as many as cost so many operations a pass: a second or a few."""
WEAK = 16.0
"""Prior precision of an interaction, in runs: it is told apart where that costs the main effects little."""
TINY = 1e-3
"""Prior precision of all else, so that a start which can't tell the main effects can be bettered too."""


def fraction(levels: Sequence[int], runs: int, seed: int) -> list[tuple[int, ...]]:
    """So many different points of the grid, each a place among every axis's levels, in the order of the grid."""
    grid = _candidates(levels, runs, seed)
    columns, main = _columns(grid, levels)
    prior = np.where(np.arange(columns.shape[1]) < main, TINY, WEAK)
    rng = np.random.default_rng(seed)
    starts = max(1, min(STARTS, int(BUDGET / (columns.size * columns.shape[1] * runs))))
    found = [_exchanged(columns, prior, rng.permutation(len(grid))[:runs]) for _ in range(starts)]
    best = max(found, key=lambda rows: round(_information(columns[rows], prior), 9))
    return [tuple(int(place) for place in grid[i]) for i in sorted(best)]


def _candidates(levels: Sequence[int], runs: int, seed: int) -> NDArray[np.int64]:
    """(C, K) points of the grid."""
    size, most = prod(levels), max(MOST_CANDIDATES, runs)
    drawn = np.random.default_rng(seed).choice(size, min(size, most), replace=False)
    chosen = np.sort(drawn)
    return np.stack(np.unravel_index(chosen, tuple(levels)), axis=1) if levels else np.zeros((1, 0), dtype=np.int64)


def _columns(grid: NDArray[np.int64], levels: Sequence[int]) -> tuple[Floats, int]:
    """(C, P) the constant, main effects and two-way interactions, orthonormal over the grid; how many are main."""
    coded = []
    for place, size in enumerate(levels):
        contrasts = np.linalg.qr(np.vander(np.arange(size) - (size - 1) / 2, size, increasing=True))[0][:, 1:]
        coded.append(np.sqrt(size) * contrasts[grid[:, place]])
    blocks = [np.ones((len(grid), 1)), *coded]
    main = sum(block.shape[1] for block in blocks)
    if main + sum(a.shape[1] * b.shape[1] for a, b in combinations(coded, 2)) > MOST_COLUMNS:
        return np.concatenate(blocks, axis=1), main
    blocks += [(a[:, :, None] * b[:, None, :]).reshape(len(grid), -1) for a, b in combinations(coded, 2)]
    return np.concatenate(blocks, axis=1), main


def _exchanged(columns: Floats, prior: Floats, start: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row by row the exchange with an unused point that adds most information, until none adds any."""
    rows, bettered = start.copy(), True
    while bettered:
        bettered = False
        for place in range(len(rows)):
            inverse = np.linalg.inv(columns[rows].T @ columns[rows] + np.diag(prior))
            old = columns[rows[place]] @ inverse
            away, cross = old @ columns[rows[place]], columns @ old
            own = ((columns @ inverse) * columns).sum(1)
            ratio = (1 + own) * (1 - away) + cross**2
            ratio[rows] = 0.0
            if ratio.max() > 1 + 1e-9:
                rows[place], bettered = int(ratio.argmax()), True
    return rows


def _information(columns: Floats, prior: Floats) -> float:
    return float(np.linalg.slogdet(columns.T @ columns + np.diag(prior))[1])
