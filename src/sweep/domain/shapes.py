"""The shapes of a decay: pure functions of progress, without numpy, so that a configuration knows them at once."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def wsd(peak: float, last: float, update: int, updates: int) -> float:
    """As OLMo-core's WSD decays."""
    return last + (peak - last) * (updates - update) / updates


def linear_with_warmup(peak: float, last: float, update: int, updates: int) -> float:
    """As OLMo-core's LinearWithWarmup decays."""
    return peak - (peak - last) * (update / updates)


LINES: dict[str, Callable[[float, float, int, int], float]] = {
    line.__name__: line for line in (wsd, linear_with_warmup)
}
"""(peak, last rate, update from 1, updates) -> rate. They are `linear` with the last bits of OLMo-core's schedulers of
these names, for an anneal that is to be theirs exactly."""

UNIFORM = "uniform"
WEIGHTS = (UNIFORM, *(name for name in SHAPES if name not in ("constant", "exponential")))
"""What an average of checkpoints may emulate: not constant, which would give all weight to the last checkpoint, and not
exponential, which never reaches 0."""
