"""Annealing laws: the loss that a sequence of learning rates leads to, fitted to measured losses.

True to Luo et al. 2025 (multi-power law, arXiv 2503.12811) and Tissue et al. 2024 (arXiv 2408.11029).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, signal

Floats = NDArray[np.float64]
HUBER = 1e-3
"""Of the logarithm of the loss, as the multi-power law's authors have it."""
MOMENTUM = 0.999
"""Tissue's lambda."""
KNOTS = 256
"""Falls of a curve's learning rate that the multi-power law sums over; small ones are summed together."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Losses along one training."""

    name: str
    rates: Floats
    """(T,) learning rate of each update that the law counts."""
    at: NDArray[np.int64]
    """(N,) updates, from 0 for before the first, after which the loss was measured."""
    loss: Floats
    """(N,) nats."""
    before: float = 0.0
    """Sum of the learning rates of the updates that came before `rates`."""


@dataclass(frozen=True)
class FittedLaw:
    """A law with its parameters."""

    law: str
    parameters: Mapping[str, float]
    scale: float
    """Unit of sums of learning rates."""
    predict: Callable[[Curve], Floats]
    """(N,) losses at a curve's measured places."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a law meets one curve."""

    law: str
    curve: str
    fitted: bool
    """Whether this curve took part in the fit."""
    r2: float | None
    """Share of the variance explained; None: fewer than 3 points, or all alike."""
    mean_absolute_error: float
    """Nats."""
    points: int


def multi_power(curves: Sequence[Curve], near: FittedLaw | None = None) -> FittedLaw:
    """L = L0 + A (S1 + S_W)^-alpha - B sum_k (lr_k-1 - lr_k) G(lr_k^-gamma S_k), G(x) = 1 - (C x + 1)^-beta."""
    scale = near.scale if near else _scale(curves)
    names = ("L0", "A", "alpha", "B", "C", "beta", "gamma")
    least = min(float(c.loss.min()) for c in curves)
    start = np.array([0.9 * least, 0.1 * least, 0.5, 0.2 * least, 1.0, 0.5, 0.5])
    falls = {curve: _falls(curve, scale) for curve in curves}

    def loss(p: Floats, curve: Curve) -> Floats:
        level, amplitude, alpha, gain, c, beta, gamma = p
        reached, drop, rate, since = falls.get(curve) or _falls(curve, scale)
        base = level + amplitude * np.maximum(reached, 1e-12) ** -alpha
        if not len(drop):
            return base
        # (N, K) what each fall has given by each measured update
        x = np.maximum(since, 0.0) * rate**-gamma
        return base - gain * (np.where(since > 0, 1 - (c * x + 1) ** -beta, 0.0) * drop).sum(1)

    bounds = ([0.0, 1e-6, 0.01, 0.0, 1e-4, 0.01, 0.0], [least, np.inf, 3.0, np.inf, 1e4, 5.0, 2.0])
    parameters = _least(curves, loss, start, bounds, near)
    return FittedLaw(
        "multi-power", dict(zip(names, map(float, parameters), strict=True)), scale, lambda c: loss(parameters, c)
    )


def tissue(curves: Sequence[Curve], near: FittedLaw | None = None) -> FittedLaw:
    """L = L0 + A S1^-alpha - C S2, S2 the summed momentum of the learning rate's falls, lambda = MOMENTUM."""
    scale = near.scale if near else _scale(curves)
    least = min(float(c.loss.min()) for c in curves)
    sums = {curve: _momentum(curve, scale) for curve in curves}

    def loss(p: Floats, curve: Curve) -> Floats:
        level, amplitude, alpha, gain = p
        first, second = sums.get(curve) or _momentum(curve, scale)
        return level + amplitude * np.maximum(first, 1e-12) ** -alpha - gain * second

    start = np.array([0.9 * least, 0.1 * least, 0.5, 1e-3 * least])
    bounds = ([0.0, 1e-6, 0.01, 0.0], [least, np.inf, 3.0, np.inf])
    parameters = _least(curves, loss, start, bounds, near)
    names = ("L0", "A", "alpha", "C")
    return FittedLaw(
        "momentum", dict(zip(names, map(float, parameters), strict=True)), scale, lambda c: loss(parameters, c)
    )


class LawFitter(Protocol):
    """Fits a law; `near` is one fitted to almost the same curves, to begin from."""

    def __call__(self, curves: Sequence[Curve], near: FittedLaw | None = None) -> FittedLaw: ...


LAWS: dict[str, tuple[LawFitter, int]] = {
    "multi-power": (multi_power, 7),
    "momentum": (tissue, 4),
}
"""Name -> how it is fitted, and how many parameters that finds."""


def quality(law: FittedLaw, curve: Curve, *, fitted: bool) -> Quality:
    """How near the law is to a curve."""
    error = law.predict(curve) - curve.loss
    spread = float(((curve.loss - curve.loss.mean()) ** 2).sum())
    return Quality(
        law=law.law,
        curve=curve.name,
        fitted=fitted,
        r2=1 - float((error**2).sum()) / spread if len(error) > 2 and spread > 0 else None,
        mean_absolute_error=float(np.abs(error).mean()),
        points=len(error),
    )


def _scale(curves: Sequence[Curve]) -> float:
    """Sums of learning rates are counted in the largest rate x 1000, so that parameters are of order 1."""
    return 1000 * max(float(curve.rates.max(initial=0.0)) for curve in curves)


def _falls(curve: Curve, scale: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Sum of rates at each place (N,), and of K falls: size (K,), rate after it (K,), sum since (N, K).

    Rates are in units of the largest one.
    """
    unit = scale / 1000
    total = np.concatenate([[0.0], np.cumsum(curve.rates)]) / scale
    drops = -np.diff(curve.rates) / unit
    there = np.flatnonzero(drops)
    if len(there) > KNOTS:
        groups = np.array_split(there, KNOTS)
        place = np.array([group[len(group) // 2] for group in groups])
        drop = np.array([drops[group].sum() for group in groups])
    else:
        place, drop = there, drops[there]
    rate = np.maximum(curve.rates[place + 1] / unit, 1e-9) if len(place) else np.empty(0)
    reached = total[curve.at]
    return reached + curve.before / scale, drop, rate, reached[:, None] - total[place + 1][None, :]


def _momentum(curve: Curve, scale: float) -> tuple[Floats, Floats]:
    """S1 and S2 at each place (N,), S2 in units of the largest rate."""
    total = np.concatenate([[0.0], np.cumsum(curve.rates)]) / scale
    falls = np.concatenate([[0.0], -np.diff(curve.rates)]) / (scale / 1000)
    second = np.concatenate([[0.0], np.cumsum(signal.lfilter([1.0], [1.0, -MOMENTUM], falls))])
    return total[curve.at] + curve.before / scale, second[curve.at]


def _least(
    curves: Sequence[Curve],
    loss: Callable[[Floats, Curve], Floats],
    start: Floats,
    bounds: tuple[Sequence[float], Sequence[float]],
    near: FittedLaw | None,
) -> Floats:
    """Parameters with the least Huber loss of the logarithm."""

    def residuals(p: Floats) -> Floats:
        return np.concatenate([np.log(np.maximum(loss(p, c), 1e-3)) - np.log(c.loss) for c in curves])

    low, high = np.array(bounds[0]), np.array(bounds[1])
    begin = start if near is None else np.clip(list(near.parameters.values()), low + 1e-9, high - 1e-9)
    result: Floats = optimize.least_squares(
        residuals,
        begin,
        bounds=bounds,
        loss="huber",
        f_scale=HUBER,
        x_scale=start,
        max_nfev=400 if near is None else 20,
    ).x
    return result
