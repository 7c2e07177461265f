"""Between and beyond the settings that were run: a Gaussian process over all axes, and Sobol's indices of a forest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sweep.analysis.factors import Axis

Floats = NDArray[np.float64]
MOST_SETTINGS = 300
"""Cells that a Gaussian process takes; of more, so many drawn at random."""
FEWEST = 5
SAMPLES = 256
"""Of Sobol's sequence, a power of 2."""


@dataclass(frozen=True)
class Surface:
    """What is known of an outcome at any setting."""

    axes: tuple[Axis, ...]
    process: GaussianProcessRegressor
    center: float
    spread: float
    cross_validation_error: float
    """Root mean square error at each setting of the process fitted to the others (its scales kept)."""
    widened: float
    """What its standard deviations are multiplied by: at least 1, so that the errors left out are no surprise."""

    def at(self, settings: pd.DataFrame) -> tuple[Floats, Floats]:
        """(N,) mean, and standard deviation of a new run there, its noise included."""
        mean, sd = self.process.predict(_coded(settings, self.axes), return_std=True)
        return self.center + self.spread * mean, self.spread * self.widened * sd


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Share of a forest's variance that an axis takes part in, with its interactions (Sobol's total index)."""

    outcome: str
    axis: str
    alone_percent: float
    total_percent: float


def surface(runs: pd.DataFrame, found: Sequence[Axis], column: str) -> Surface | None:
    """FittedLaw to the settings' means; None where there are fewer than FEWEST settings."""
    names = [axis.name for axis in found]
    means = runs.dropna(subset=[column]).groupby(names, sort=False, dropna=False)[column].mean().reset_index()
    if len(means) < FEWEST:
        return None
    means = means.sample(min(len(means), MOST_SETTINGS), random_state=0)
    x, y = _coded(means, found), means[column].to_numpy(dtype=float)
    center, spread = float(y.mean()), float(y.std()) or 1.0
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(np.ones(x.shape[1]), (0.2, 50.0)) + WhiteKernel(0.1, (1e-4, 2.0))
    process = GaussianProcessRegressor(kernel, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is an inert axis
        process.fit(x, (y - center) / spread)
    inverse = np.linalg.inv(process.kernel_(x))
    left_out = (inverse @ ((y - center) / spread)) / np.diag(inverse)
    surprise = float(np.sqrt((left_out**2 * np.diag(inverse)).mean()))
    error = spread * float(np.sqrt((left_out**2).mean()))
    return Surface(tuple(found), process, center, spread, error, max(1.0, surprise))


def importances(runs: pd.DataFrame, found: Sequence[Axis], outcome: str, column: str) -> tuple[Importance, ...]:
    """A second opinion on which of several axes matters: the functional analysis of variance of a random forest."""
    mine = runs.dropna(subset=[column])
    if len(found) < 2 or len(mine) < FEWEST or mine[column].nunique() < 2:
        return ()
    ordinal = np.stack([_place(axis, mine[axis.name]) for axis in found], axis=1)
    forest = RandomForestRegressor(100, min_samples_leaf=2 if len(mine) > 20 else 1, random_state=0, max_samples=None)
    forest.fit(ordinal, mine[column].to_numpy(dtype=float))
    sizes = [stats.uniform(0, len(axis.levels)) for axis in found]
    found_indices = stats.sobol_indices(
        func=lambda u: forest.predict(np.floor(u.T))[None, :], n=SAMPLES, dists=sizes, rng=np.random.default_rng(0)
    )
    first, total = np.ravel(found_indices.first_order), np.ravel(found_indices.total_order)
    return tuple(
        Importance(
            outcome=outcome,
            axis=axis.name,
            alone_percent=float(100 * max(first[i], 0.0)),
            total_percent=float(100 * max(total[i], 0.0)),
        )
        for i, axis in enumerate(found)
    )


def _place(axis: Axis, values: pd.Series) -> NDArray[np.int64]:
    """Of each value, the place of its level."""
    places: Mapping[object, int] = {level: i for i, level in enumerate(axis.levels)}
    return values.map(places).to_numpy()


def _coded(settings: pd.DataFrame, found: Sequence[Axis]) -> Floats:
    """(N, C): numbers scaled, other levels one column each."""
    blocks = []
    for axis in found:
        values = settings[axis.name]
        if axis.numeric:
            blocks.append(axis.scaled(values)[:, None])
        else:
            blocks.append(np.eye(len(axis.levels))[_place(axis, values)])
    return np.concatenate(blocks, axis=1)
