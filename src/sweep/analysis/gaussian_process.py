"""A Gaussian process over all axes, to predict settings that were not run, and a random forest to rank the axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from sweep.analysis.factors import Axis, Floats

FEWEST, MOST_SETTINGS = 5, 300
"""Settings that a Gaussian process is fitted to; of more, a random sample of this size."""
SAMPLES = 256
"""Samples for the Sobol indices, a power of 2."""


@dataclass(frozen=True)
class Surface:
    """An outcome as a function of the axes."""

    axes: tuple[Axis, ...]
    process: GaussianProcessRegressor
    center: float
    spread: float
    cross_validation_error: float
    """Root mean square error at each setting of the process fitted to the others, its length scales unchanged."""
    widening: float
    """At least 1: the factor for standard deviations that makes them as large as the cross-validation errors."""

    def predict(self, settings: pd.DataFrame) -> tuple[Floats, Floats]:
        """(N,) mean of a new run at each setting, and its standard deviation with noise."""
        mean, sd = self.process.predict(_coded(settings, self.axes), return_std=True)
        return self.center + self.spread * mean, self.spread * self.widening * sd


@dataclass(frozen=True, kw_only=True)
class Importance:
    """The share of an axis in the variance of a random forest."""

    outcome: str
    axis: str
    alone_percent: float
    """Sobol's first-order index."""
    total_percent: float
    """Sobol's total index, which includes interactions."""


def fit_surface(runs: pd.DataFrame, axes: Sequence[Axis], column: str) -> Surface | None:
    """The process fitted to the means of settings; None for fewer than FEWEST settings."""
    names = [axis.name for axis in axes]
    means = runs.dropna(subset=[column]).groupby(names, sort=False, dropna=False)[column].mean().reset_index()
    if len(means) < FEWEST:
        return None
    means = means.sample(min(len(means), MOST_SETTINGS), random_state=0)
    x, y = _coded(means, axes), means[column].to_numpy(dtype=float)
    center, spread = float(y.mean()), float(y.std()) or 1.0
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(np.ones(x.shape[1]), (0.2, 50.0)) + WhiteKernel(0.1, (1e-4, 2.0))
    process = GaussianProcessRegressor(kernel, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is that of an inert axis
        process.fit(x, (y - center) / spread)
    inverse = np.linalg.inv(process.kernel_(x))
    errors = (inverse @ ((y - center) / spread)) / np.diag(inverse)
    widening = max(1.0, float(np.sqrt((errors**2 * np.diag(inverse)).mean())))
    return Surface(tuple(axes), process, center, spread, spread * float(np.sqrt((errors**2).mean())), widening)


def importances(runs: pd.DataFrame, axes: Sequence[Axis], outcome: str, column: str) -> tuple[Importance, ...]:
    """A second opinion on which of several axes matters: the Sobol indices of a random forest."""
    measured = runs.dropna(subset=[column])
    if len(axes) < 2 or len(measured) < FEWEST or measured[column].nunique() < 2:
        return ()
    places = np.stack([axis.places(measured[axis.name]) for axis in axes], axis=1)
    leaf = 2 if len(measured) > 20 else 1
    forest = RandomForestRegressor(100, min_samples_leaf=leaf, random_state=0)
    forest.fit(places, measured[column].to_numpy(dtype=float))
    indices = stats.sobol_indices(
        func=lambda u: forest.predict(np.floor(u.T))[None, :],
        n=SAMPLES,
        dists=[stats.uniform(0, len(axis.levels)) for axis in axes],
        rng=np.random.default_rng(0),
    )
    alone, total = (100 * np.maximum(np.ravel(index), 0.0) for index in (indices.first_order, indices.total_order))
    return tuple(
        Importance(outcome=outcome, axis=axis.name, alone_percent=float(alone[i]), total_percent=float(total[i]))
        for i, axis in enumerate(axes)
    )


def _coded(settings: pd.DataFrame, axes: Sequence[Axis]) -> Floats:
    """(N, C) numbers scaled to -1 to 1; of other axes a column for each level."""
    blocks = []
    for axis in axes:
        values = settings[axis.name]
        blocks.append(axis.scaled(values)[:, None] if axis.numeric else np.eye(len(axis.levels))[axis.places(values)])
    return np.concatenate(blocks, axis=1)
