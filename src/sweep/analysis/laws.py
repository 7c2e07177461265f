"""Annealing laws: the loss that a sequence of learning rates leads to, fitted to measured losses.

The multi-power law is that of Luo et al. 2025 (arXiv 2503.12811), the momentum law that of Tissue et al. 2024 (arXiv
2408.11029).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, signal

Floats = NDArray[np.float64]
HUBER = 1e-3
"""Error of the logarithm from which the Huber loss is linear, as chosen by the authors of the multi-power law."""
MOMENTUM = 0.999
"""Lambda of the momentum law."""
MOST_FALLS = 256
"""Falls of the learning rate that the multi-power law sums over; if there are more, neighbours are merged."""


@dataclass(frozen=True, eq=False)
class Past:
    """The updates before those that a curve holds one by one."""

    progress: float
    """Sum of their learning rates."""
    falls: Floats
    """(K, 4), for each fall of the rate: its size, the rate after it, and the sum of the rates and the number of the
    updates from it to the end."""


NO_PAST = Past(0.0, np.empty((0, 4)))


@dataclass(frozen=True, eq=False)
class Curve:
    """Losses along one training."""

    name: str
    rates: Floats
    """(T,) learning rates of the updates that the law counts."""
    at: NDArray[np.int64]
    """(N,) numbers of updates after which the loss was measured; 0 is before the first."""
    loss: Floats
    """(N,) nats per token."""
    past: Past = NO_PAST
    """The updates before `rates`."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law, and where its fit starts and may go."""

    name: str
    start: float
    low: float
    high: float
    is_loss: bool = False
    """Whether `start` and `high` are fractions of the lowest measured loss."""


@dataclass(frozen=True)
class Law:
    """A formula for the loss. Sums of learning rates are in units of a scale, so that parameters are of order 1."""

    name: str
    parameters: tuple[Parameter, ...]
    summary: Callable[[Curve, float], tuple[Floats, ...]]
    """What the formula uses of a curve, given the scale."""
    formula: Callable[[Floats, tuple[Floats, ...]], Floats]
    """(N,) losses, from parameters and the summary of a curve."""


@dataclass(frozen=True)
class FittedLaw:
    """A law with its parameters."""

    law: Law
    parameters: Floats
    scale: float

    def predict(self, curve: Curve) -> Floats:
        """(N,) losses at the measured places of a curve."""
        return self.law.formula(self.parameters, self.law.summary(curve, self.scale))


def fit_law(law: Law, curves: Sequence[Curve], near: FittedLaw | None = None) -> FittedLaw:
    """The parameters with the least Huber loss of the logarithm; a fit to almost the same curves may be given."""
    scale = near.scale if near else 1000 * max(float(curve.rates.max(initial=0.0)) for curve in curves)
    least = min(float(c.loss.min()) for c in curves)
    units = np.array([least if p.is_loss else 1.0 for p in law.parameters])
    start = units * [p.start for p in law.parameters]
    low, high = np.array([p.low for p in law.parameters]), units * [p.high for p in law.parameters]
    summaries = [law.summary(curve, scale) for curve in curves]
    measured = np.log(np.concatenate([curve.loss for curve in curves]))

    def residuals(p: Floats) -> Floats:
        return np.log(np.maximum(np.concatenate([law.formula(p, s) for s in summaries]), 1e-3)) - measured

    result = optimize.least_squares(
        residuals,
        start if near is None else np.clip(near.parameters, low + 1e-9, high - 1e-9),
        bounds=(low, high),
        loss="huber",
        f_scale=HUBER,
        x_scale=start,
        max_nfev=400 if near is None else 20,
    )
    return FittedLaw(law, result.x, scale)


def _progress(curve: Curve, scale: float) -> tuple[Floats, Floats]:
    """Sums of learning rates: from the start of training to each place (N,), in `rates` after each update (T + 1,)."""
    total = np.concatenate([[0.0], np.cumsum(curve.rates)]) / scale
    return total[curve.at] + curve.past.progress / scale, total


def _falls(curve: Curve, scale: float) -> tuple[Floats, ...]:
    """Progress (N,), and for each of K falls of the rate: size (K,), rate after it (K,), progress since it (N, K).

    The falls of the past come first.

    Sizes and rates are in units of the largest rate.
    """
    unit = scale / 1000
    progress, total = _progress(curve, scale)
    drops = -np.diff(curve.rates) / unit
    falling = np.flatnonzero(drops)
    groups = np.array_split(falling, min(len(falling), MOST_FALLS) or 1)
    place = np.array([group[len(group) // 2] for group in groups if len(group)], dtype=int)
    drop = np.array([drops[group].sum() for group in groups if len(group)])
    rate = np.maximum(curve.rates[place + 1] / unit, 1e-9)
    since = total[curve.at][:, None] - total[place + 1][None, :]
    past_drop, past_rate, past_since, _ = curve.past.falls.T
    return (
        progress,
        np.concatenate([past_drop / unit, drop]),
        np.concatenate([np.maximum(past_rate / unit, 1e-9), rate]),
        np.concatenate([past_since / scale + total[curve.at][:, None], since], axis=1),
    )


def _multi_power(p: Floats, summary: tuple[Floats, ...]) -> Floats:
    """L = L0 + A (S1 + S_W)^-alpha - B sum_k (lr_k-1 - lr_k) G(lr_k^-gamma S_k), G(x) = 1 - (C x + 1)^-beta."""
    level, amplitude, alpha, gain, c, beta, gamma = p
    progress, drop, rate, since = summary
    x = np.maximum(since, 0.0) * rate**-gamma
    given = np.where(since > 0, 1 - (c * x + 1) ** -beta, 0.0) * drop  # (N, K) by each fall up to each place
    return level + amplitude * np.maximum(progress, 1e-12) ** -alpha - gain * given.sum(1)


def _momentum_sums(curve: Curve, scale: float) -> tuple[Floats, ...]:
    """S1 and S2 at each place (N,), S2 in units of the largest rate."""
    progress, _ = _progress(curve, scale)
    falls = np.concatenate([[0.0], -np.diff(curve.rates)]) / (scale / 1000)
    second = np.concatenate([[0.0], np.cumsum(signal.lfilter([1.0], [1.0, -MOMENTUM], falls))])
    size, *_, updates = curve.past.falls.T
    decayed = MOMENTUM ** (updates + curve.at[:, None])  # (N, K)
    of_past = (size / (scale / 1000) * (1 - decayed) / (1 - MOMENTUM)).sum(1)
    return progress, second[curve.at] + of_past


def _momentum(p: Floats, summary: tuple[Floats, ...]) -> Floats:
    """L = L0 + A S1^-alpha - C S2, where S2 is the summed momentum of the falls of the rate."""
    level, amplitude, alpha, gain = p
    first, second = summary
    return level + amplitude * np.maximum(first, 1e-12) ** -alpha - gain * second


_SHARED = (
    Parameter("L0", 0.9, 0.0, 1.0, is_loss=True),
    Parameter("A", 0.1, 1e-6, np.inf, is_loss=True),
    Parameter("alpha", 0.5, 0.01, 3.0),
)
_OF_FALLS = (
    Parameter("B", 0.2, 0.0, np.inf, is_loss=True),
    Parameter("C", 1.0, 1e-4, 1e4),
    Parameter("beta", 0.5, 0.01, 5.0),
    Parameter("gamma", 0.5, 0.0, 2.0),
)
MULTI_POWER = Law("multi-power", (*_SHARED, *_OF_FALLS), _falls, _multi_power)
MOMENTUM_LAW = Law("momentum", (*_SHARED, Parameter("C", 1e-3, 0.0, np.inf, is_loss=True)), _momentum_sums, _momentum)
LAWS = (MULTI_POWER, MOMENTUM_LAW)
