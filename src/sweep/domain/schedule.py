"""A schedule is data: shapes are pure functions of progress, and a plan turns one into an array of learning rates.

Update i of N runs at progress i/N, i = 1..N, as OLMo and OLMo-core count: the last update of a decay to zero runs at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Shape = Callable[[float, float], float]
"""(progress in [0, 1], final fraction) -> fraction of the peak; 1 at progress 0, the final fraction at 1."""


def linear(progress: float, final: float) -> float:
    """A straight line."""
    return _between(1 - progress, final)


def cosine(progress: float, final: float) -> float:
    """Half a cosine (Loshchilov and Hutter, arXiv 1608.03983)."""
    return _between((1 + math.cos(math.pi * progress)) / 2, final)


def sqrt(progress: float, final: float) -> float:
    """1 - sqrt(progress), the cooldown of Hägele et al. (arXiv 2405.18392)."""
    return _between(1 - math.sqrt(progress), final)


def square(progress: float, final: float) -> float:
    """1 - progress squared: stays high for long."""
    return _between(1 - progress**2, final)


def exponential(progress: float, final: float) -> float:
    """A straight line in the logarithm; needs a positive final fraction."""
    return final**progress


def mirror_cosine(progress: float, final: float) -> float:
    """The cosine mirrored in the straight line: falls fast at both ends."""
    return _between(2 * (1 - progress) - (1 + math.cos(math.pi * progress)) / 2, final)


def cosine_linear(progress: float, final: float) -> float:
    """Cosine times a straight line, as ai2-olmo's `CosLinearEnvelope`."""
    return _between((1 - progress) * (1 + math.cos(math.pi * progress)) / 2, final)


def constant(progress: float, final: float) -> float:
    """No decay: the control that tells annealing apart from more data."""
    return 1.0


def _between(share: float, final: float) -> float:
    """`share` of the way from the final fraction to 1, both ends exact."""
    return share + final * (1 - share)


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (linear, cosine, sqrt, square, exponential, mirror_cosine, cosine_linear, constant)
}


def learning_rates(
    shape: str,
    *,
    steps: int,
    peak: float,
    final_fraction: float = 0.0,
    hold_steps: int = 0,
    warmup_steps: int = 0,
    start: float = 0.0,
) -> np.ndarray:
    """Learning rates (steps,) float64, one an update: warmup, hold, and the decay over the rest.

    The warmup is a straight line whose update i of W is at i/W of the way from `start` to the peak, the last one at it,
    as in ai2-olmo's and OLMo-core's `_linear_warmup`.
    """
    decay = steps - warmup_steps - hold_steps
    fraction = SHAPES[shape]
    rising = [start + (peak - start) * i / warmup_steps for i in range(1, warmup_steps)]
    falling = [fraction(i / decay, final_fraction) * peak for i in range(1, decay + 1)]
    return np.array([*rising, *[peak] * (hold_steps + min(warmup_steps, 1)), *falling], dtype=np.float64)


def warmup(steps: int, *, peak: float, warmup_steps: int) -> np.ndarray:
    """Learning rates (steps,) of a training from scratch: linear from a tenth of the peak, then constant.

    The tenth is ai2-olmo's `_linear_warmup` start, so that its schedulers give the same trace.
    """
    start = 0.1 * peak
    rising = start + (peak - start) * np.arange(1, steps + 1) / warmup_steps
    return np.where(np.arange(1, steps + 1) < warmup_steps, rising, peak)


def scheduled(
    t: float, *, shape: str, peak: float, t_warmup: float, t_max: float, final_fraction: float, start: float
) -> float:
    """Learning rate at `t` of a training from scratch: linear from `start` to the peak at t_warmup, `shape` to t_max.

    From t_max on it stays at its last value, as ai2-olmo's `CosWithWarmup` and `LinearWithWarmup` do.
    """
    if t < t_warmup:
        return start + (peak - start) * t / t_warmup
    progress = min((t - t_warmup) / (t_max - t_warmup), 1.0)
    return peak * SHAPES[shape](progress, final_fraction)
