"""A schedule is data: a shape is a pure function of progress, and `learning_rates` turns it into an array.

Update i of N has progress i/N, i = 1..N, as OLMo and OLMo-core count: the last update of a decay to zero has LR 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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
    """1 - progress squared: it stays high for a long time."""
    return _between(1 - progress**2, final)


def exponential(progress: float, final: float) -> float:
    """A straight line in the logarithm; it needs a positive final fraction."""
    return final**progress


def mirror_cosine(progress: float, final: float) -> float:
    """The cosine mirrored at the straight line: it falls fast at both ends."""
    return _between(2 * (1 - progress) - (1 + math.cos(math.pi * progress)) / 2, final)


def cosine_linear(progress: float, final: float) -> float:
    """Cosine times a straight line, as ai2-olmo's `CosLinearEnvelope`."""
    return _between((1 - progress) * (1 + math.cos(math.pi * progress)) / 2, final)


def constant(progress: float, final: float) -> float:
    """No decay: the control that separates the effect of annealing from that of more data."""
    return 1.0


def _between(share: float, final: float) -> float:
    """`share` of the way from the final fraction to 1, both ends exact."""
    return share + final * (1 - share)


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (linear, cosine, sqrt, square, exponential, mirror_cosine, cosine_linear, constant)
}


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """A straight line to the peak."""

    steps: int = 0
    start: float = 0.0
    """Learning rate before the first of the steps."""


NO_WARMUP = Warmup()


def learning_rates(
    shape: str,
    *,
    steps: int,
    peak: float,
    final_fraction: float = 0.0,
    hold_steps: int = 0,
    warmup: Warmup = NO_WARMUP,
) -> np.ndarray:
    """Learning rates (steps,) float64, one per update: the warmup, the hold, and the decay over the other steps.

    Update i of W warmup steps is at i/W of the way from the start to the peak, and the last one is at the peak, as in
    `_linear_warmup` of ai2-olmo and OLMo-core.
    """
    decay = steps - warmup.steps - hold_steps
    fraction = SHAPES[shape]
    rising = [warmup.start + (peak - warmup.start) * i / warmup.steps for i in range(1, warmup.steps)]
    falling = [fraction(i / decay, final_fraction) * peak for i in range(1, decay + 1)]
    return np.array([*rising, *[peak] * (hold_steps + min(warmup.steps, 1)), *falling], dtype=np.float64)


def warmup_then_constant(steps: int, *, peak: float, warmup_steps: int) -> np.ndarray:
    """Learning rates (steps,) of a training from scratch: linear from a tenth of the peak, then constant.

    ai2-olmo's `_linear_warmup` starts at a tenth too, so that its schedulers give the same learning rates.
    """
    start = 0.1 * peak
    rising = start + (peak - start) * np.arange(1, steps + 1) / warmup_steps
    return np.where(np.arange(1, steps + 1) < warmup_steps, rising, peak)
