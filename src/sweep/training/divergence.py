"""When a training has failed: a loss or gradient that is not finite, or a loss that rises and stays high."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweep.domain.records import StepRecord

FIRST, MARGIN, STREAK = 10, 2.0, 20
"""Diverged: the last STREAK losses are all more than MARGIN nats per token above the highest of the FIRST.

If the loss of a uniform guess is lower than that, it is the measure instead: under a wild learning rate even the first
losses are high.
"""


class Diverged(RuntimeError):
    """The training has failed. Its records stay; its state is not saved."""


def check_finite(record: StepRecord) -> None:
    """Raise Diverged if the loss or the gradient's norm is not finite."""
    if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
        raise Diverged(
            f"update {record.update}: the training loss is {record.loss:g} and its gradient's norm "
            f"{record.grad_norm:g} (learning rate {record.lr:g})"
        )


def check_losses(steps: Sequence[StepRecord], *, vocab_size: int) -> None:
    """Raise Diverged if the losses of `steps`, all updates so far, have been too high for STREAK updates."""
    bound = highest_sound(steps, vocab_size=vocab_size)
    if len(steps) >= STREAK and all(step.loss > bound for step in steps[-STREAK:]):
        last = steps[-1]
        raise Diverged(
            f"update {last.update}: the training loss is {last.loss:g} (learning rate {last.lr:g}); it has been above "
            f"{bound:g} nats a token for {STREAK} updates, and was {steps[0].loss:g} at first"
        )


def highest_sound(steps: Sequence[StepRecord], *, vocab_size: int) -> float:
    """The divergence threshold in nats per token: a training with a higher loss may be diverging."""
    return min(max(step.loss for step in steps[:FIRST]), math.log(vocab_size)) + MARGIN
