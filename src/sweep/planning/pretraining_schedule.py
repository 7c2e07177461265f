"""Learning rate and tokens at a step of a pretraining, and whether a checkpoint agrees with them.

The published configuration is not always the one that ran: allenai/OLMo#849 (another learning rate), #865.
"""

from __future__ import annotations

import math

import numpy as np

from sweep.config import Anneal, Checkpoint, Model
from sweep.config.published import from_hub
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.domain.schedule import warmup_then_constant

TOLERANCE = 0.01
"""Relative tolerance for published trainings: learning rates are rounded, and a few updates had another batch size."""
WRITTEN_AND_RUN = "; what was written down is not always what ran (allenai/OLMo#849, #865): find out which one is right"


def pretraining_rates(model: Model, step: int) -> np.ndarray:
    """Learning rates (step,) of the embedded trajectory up to `step`."""
    assert model.pretraining
    return warmup_then_constant(step, peak=model.pretraining.peak_lr, warmup_steps=model.pretraining.warmup_steps)


def pretraining_lr(model: Model, step: int) -> float | None:
    """Learning rate after `step` updates of the pretraining; None if it isn't known."""
    if model.pretraining is not None:
        return float(pretraining_rates(model, step)[-1])
    if model.published is None:
        return None
    if step in model.published.known_lrs:
        return model.published.known_lrs[step]
    scheduler, tokens = model.published.scheduler, tokens_seen(model, step)
    if scheduler is None or tokens is None:
        return None
    return scheduler.lr_at(tokens if scheduler.units == "tokens" else step)


def tokens_seen(model: Model, step: int) -> int | None:
    """Tokens seen after `step` updates; None if the model's option doesn't state the batch size."""
    if model.source in ("hub", "local") or model.batch_size is None or model.sequence_length is None:
        return None
    return step * model.batch_size * model.sequence_length


def known_lr(model: Model, checkpoint: Checkpoint) -> float | None:
    """The current LR that the checkpoint will report; None if only the checkpoint knows it, or has none."""
    published = model.published
    if checkpoint.step is None or (published is not None and from_hub(published, checkpoint.source)):
        return None
    return pretraining_lr(model, checkpoint.step)


def expected_position(model: Model, step: int) -> Position:
    """The position that an embedded or published checkpoint at `step` will report, known before it is downloaded.

    True of the first epoch only. The learning rate is 0 if it isn't known.
    """
    assert model.batch_size and model.sequence_length
    if model.pretraining is not None:
        seed, optimizer = model.pretraining.seed, model.pretraining.optimizer
    else:
        assert model.published is not None
        seed, optimizer = model.published.data_seed, model.published.optimizer
    return Position(
        step=step,
        epoch=0,
        instances=step * model.batch_size,
        tokens=step * model.batch_size * model.sequence_length,
        lr=pretraining_lr(model, step) or 0.0,
        batch_size=model.batch_size,
        sequence_length=model.sequence_length,
        data_seed=seed,
        max_grad_norm=optimizer.max_grad_norm,
    )


def check_peak(model: Model, anneal: Anneal, step: int, why: str) -> None:
    """Refusal of an anneal from the current LR where the checkpoint has none; `why` says so."""
    if not anneal.steps or anneal.peak_lr is not None:
        return
    lr = pretraining_lr(model, step)
    known = "" if lr is None else f", e.g. {lr:.4g}, which the schedule of {model.name} says for this step"
    raise Refusal(f"anneal.peak_lr=null takes the current LR, which {why}: give anneal.peak_lr{known}")


def check_lr_is_known(model: Model, checkpoint: Checkpoint, anneal: Anneal) -> None:
    """Refusal, before anything is downloaded, of an anneal from a current LR that the weights alone don't have."""
    published = model.published
    if published is None or checkpoint.step is None or not from_hub(published, checkpoint.source):
        return
    if published.hub_optimizer is None or not anneal.needs_optimizer:
        check_peak(model, anneal, checkpoint.step, "weights without optimizer don't say")


def check_trained(model: Model, position: Position) -> None:
    """Refusal, naming both values, where a checkpoint's learning rate or tokens contradict its model's option.

    A learning rate of 0 means a checkpoint without optimizer; it is not compared.
    """
    step, tolerance = position.step, TOLERANCE if model.published else 1e-6
    why = WRITTEN_AND_RUN if model.published else ""
    lr, tokens = pretraining_lr(model, step), tokens_seen(model, step)
    if lr is not None and position.lr > 0 and not math.isclose(position.lr, lr, rel_tol=tolerance):
        raise Refusal(
            f"the checkpoint itself says that the current LR is {position.lr:.4g}, "
            f"the schedule of {model.name} says {lr:.4g} at step {step}{why}"
        )
    if tokens is not None and not math.isclose(position.tokens, tokens, rel_tol=tolerance):
        raise Refusal(
            f"the checkpoint itself says {position.tokens:,} tokens were seen, "
            f"{step} steps of {model.name} are {tokens:,}{why}"
        )
