"""When a training has failed: its loss or gradient is no number, or the loss has left and does not come back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweep.domain.records import StepRecord

FIRST, MARGIN, STREAK = 10, 2.0, 20
"""Diverged: each of the last STREAK losses is more than MARGIN nats a token above the greatest of the FIRST.

Or above the loss of guessing uniformly, where that is less: the first losses of a wild learning rate are no measure.
"""


class Diverged(RuntimeError):
    """The training has failed; its records stay, its state is not saved."""


def check_finite(record: StepRecord) -> None:
    """Raise Diverged where the loss or the gradient's norm is infinite or no number."""
    if not (math.isfinite(record.loss) and math.isfinite(record.grad_norm)):
        raise Diverged(
            f"update {record.update}: the training loss is {record.loss:g} and its gradient's norm "
            f"{record.grad_norm:g} (learning rate {record.lr:g})"
        )


def check_losses(steps: Sequence[StepRecord], *, vocab_size: int) -> None:
    """Raise Diverged where the losses of all updates so far say so."""
    bound = highest_sound(steps, vocab_size=vocab_size)
    if len(steps) >= STREAK and all(step.loss > bound for step in steps[-STREAK:]):
        last = steps[-1]
        raise Diverged(
            f"update {last.update}: the training loss is {last.loss:g} (learning rate {last.lr:g}); it has been above "
            f"{bound:g} nats a token for {STREAK} updates, and was {steps[0].loss:g} at first"
        )


def highest_sound(steps: Sequence[StepRecord], *, vocab_size: int) -> float:
    """The loss in nats a token above which a training may be diverging."""
    return min(max(step.loss for step in steps[:FIRST]), math.log(vocab_size)) + MARGIN
