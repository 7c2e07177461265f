"""A schedule is data: a shape is a pure function of progress, and `learning_rates` turns it into an array.

Update i of N has progress i/N, i = 1..N, as OLMo and OLMo-core count: the last update of a decay to zero has LR 0.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from sweep.domain.shapes import LINES, SHAPES, Shape


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
    rising = [warmup.start + (peak - warmup.start) * i / warmup.steps for i in range(1, warmup.steps)]
    if shape in LINES:
        falling = np.array([LINES[shape](peak, peak * final_fraction, i, decay) for i in range(1, decay + 1)])
    else:
        falling = fractions(SHAPES[shape], decay, final_fraction) * peak
    return np.array([*rising, *[peak] * (hold_steps + min(warmup.steps, 1)), *falling], dtype=np.float64)


@functools.lru_cache(maxsize=4)
def fractions(shape: Shape, steps: int, final: float) -> np.ndarray:
    """Fractions of the peak (steps,) float64; points of a sweep that differ in their peaks alone share them."""
    return np.array([shape(i / steps, final) for i in range(1, steps + 1)], dtype=np.float64)


def warmup_then_constant(steps: int, *, peak: float, warmup_steps: int) -> np.ndarray:
    """Learning rates (steps,) of a training from scratch: linear from a tenth of the peak, then constant.

    ai2-olmo's `_linear_warmup` starts at a tenth too, so that its schedulers give the same learning rates.
    """
    start = 0.1 * peak
    rising = start + (peak - start) * np.arange(1, steps + 1) / warmup_steps
    return np.where(np.arange(1, steps + 1) < warmup_steps, rising, peak)
