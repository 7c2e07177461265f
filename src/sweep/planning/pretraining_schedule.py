"""What follows from how a model was pretrained: learning rate and tokens at a step, and whether a checkpoint agrees.

What was written down is not always what ran: allenai/OLMo#849 (another learning rate than the configuration's), #865.
"""

from __future__ import annotations

import math

import numpy as np

from sweep.config import Model, RunConfig
from sweep.config.published import from_hub
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.domain.schedule import scheduled, warmup

TOLERANCE = 0.01
"""Relative, for published trainings: their learning rates are rounded, a few updates had another batch size."""
WRITTEN_AND_RUN = "; what was written down is not always what ran (allenai/OLMo#849, #865): find out which one is right"


def pretraining_rates(model: Model, step: int) -> np.ndarray:
    """Learning rates (step,) of the embedded trajectory up to `step`."""
    assert model.pretraining
    return warmup(step, peak=model.pretraining.peak_lr, warmup_steps=model.pretraining.warmup_steps)


def pretraining_lr(model: Model, step: int) -> float | None:
    """Learning rate in force after `step` updates of the pretraining; None where it isn't known."""
    if model.pretraining is not None:
        return float(pretraining_rates(model, step)[-1])
    if model.published is None:
        return None
    if step in model.published.known_lrs:
        return model.published.known_lrs[step]
    scheduler, tokens = model.published.scheduler, tokens_seen(model, step)
    if scheduler is None or tokens is None:
        return None
    return scheduled(
        tokens if scheduler.units == "tokens" else step,
        shape=scheduler.name.removesuffix("_with_warmup"),
        peak=scheduler.peak_lr,
        t_warmup=scheduler.t_warmup,
        t_max=scheduler.t_max,
        final_fraction=scheduler.alpha_f,
        start=0.1 * scheduler.peak_lr if scheduler.warmup_min_lr is None else scheduler.warmup_min_lr,
    )


def tokens_seen(model: Model, step: int) -> int | None:
    """Tokens after `step` updates of a pretraining at one batch size; None where the model doesn't state it."""
    if model.source == "local" or model.batch_size is None or model.sequence_length is None:
        return None
    return step * model.batch_size * model.sequence_length


def known_lr(config: RunConfig) -> float | None:
    """Learning rate in force that the checkpoint will say; None where only the checkpoint knows, or has none."""
    published, checkpoint = config.model.published, config.checkpoint
    if checkpoint.step is None or (published is not None and from_hub(published, checkpoint.source)):
        return None
    return pretraining_lr(config.model, checkpoint.step)


def expected_position(model: Model, step: int) -> Position:
    """Where the checkpoint at `step` of an embedded or published model will stand, known before it is here.

    Its first epoch alone; the learning rate is 0 where it isn't known.
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


def check_peak(config: RunConfig, step: int, said: str) -> None:
    """Refusal of an anneal from the learning rate in force, of which `said` tells that there is none."""
    if not config.anneal.steps or config.anneal.peak_lr is not None:
        return
    lr = pretraining_lr(config.model, step)
    known = "" if lr is None else f", e.g. {lr:.4g}, which the schedule of {config.model.name} says for this step"
    raise Refusal(f"anneal.peak_lr=null takes the learning rate in force, which {said}: give anneal.peak_lr{known}")


def check_known(config: RunConfig) -> None:
    """Refusal, before anything is fetched, of an anneal from a learning rate that its weights will not say."""
    published, checkpoint = config.model.published, config.checkpoint
    if published is None or checkpoint.step is None or not from_hub(published, checkpoint.source):
        return
    if published.hub_optimizer is None or not config.anneal.needs_optimizer:
        check_peak(config, checkpoint.step, "weights without optimizer don't say")


def check_trained(model: Model, position: Position) -> None:
    """Refusal naming both values where a checkpoint's learning rate or tokens contradict its model's description.

    A learning rate of 0 is that of a checkpoint without an optimizer and says nothing.
    """
    step, tolerance = position.step, TOLERANCE if model.published else 1e-6
    why = WRITTEN_AND_RUN if model.published else ""
    lr, tokens = pretraining_lr(model, step), tokens_seen(model, step)
    if lr is not None and position.lr > 0 and not math.isclose(position.lr, lr, rel_tol=tolerance):
        raise Refusal(
            f"the checkpoint itself says the learning rate in force is {position.lr:.4g}, "
            f"the schedule of {model.name} says {lr:.4g} at step {step}{why}"
        )
    if tokens is not None and not math.isclose(position.tokens, tokens, rel_tol=tolerance):
        raise Refusal(
            f"the checkpoint itself says {position.tokens:,} tokens were seen, "
            f"{step} steps of {model.name} are {tokens:,}{why}"
        )
