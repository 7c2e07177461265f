"""What a run will do and cost, from its configuration and what its option states of the model: nothing is loaded."""

from __future__ import annotations

import dataclasses

import numpy as np

from sweep.config import Compute, Model, RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import memory_bytes
from sweep.planning.model_sizes import Sizes, stated_sizes
from sweep.planning.plan import Plan, make_plan, planned_rates, training_flops
from sweep.planning.pretraining_schedule import expected_position, known_lr

RANKS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one point will do; None: only its checkpoint can say."""

    config: RunConfig
    lr: float | None
    """In force at the checkpoint."""
    learning_rates: np.ndarray
    """(steps,) float64, one an update."""
    tokens: int | None
    tokens_seen: int | None
    """By the checkpoint, in its own training."""
    flops: float | None
    memory: tuple[int | None, ...] | None
    """Bytes of an update on each of RANKS; None among them where the batch can't be shared by so many."""


def forecast(config: RunConfig) -> Forecast:
    """What this point will do; Refusal where it can't, or where only its checkpoint knows the learning rate."""
    model, anneal, step, lr = (
        config.model,
        config.anneal,
        config.checkpoint.step,
        known_lr(config.model, config.checkpoint),
    )
    asks = anneal.steps > 0 and (anneal.peak_lr is None or (anneal.warmup_steps > 0 and anneal.optimizer == "keep"))
    if lr is None and asks:
        where = model.name if step is None else f"{model.name} at step {step}"
        raise Refusal(
            f"the learning rate in force of {where} is known from its checkpoint alone, which a preview doesn't read: "
            "give anneal.peak_lr, without anneal.warmup_steps or with anneal.optimizer=fresh"
        )
    if step is None or model.batch_size is None or model.sequence_length is None:
        rates = planned_rates(anneal, lr or 0.0)
        return Forecast(
            config=config, lr=lr, learning_rates=rates, tokens=None, tokens_seen=None, flops=None, memory=None
        )
    plan = make_plan(config, dataclasses.replace(expected_position(model, step), lr=lr or 0.0))
    sizes = stated_sizes(model)
    return Forecast(
        config=config,
        lr=lr,
        learning_rates=plan.learning_rates,
        tokens=plan.tokens,
        tokens_seen=plan.position.tokens,
        flops=_flops(sizes, plan.sequence_length, plan.tokens),
        memory=None if sizes is None else tuple(_memory(config.compute, plan, sizes, ranks) for ranks in RANKS),
    )


def training_cost(model: Model, tokens: int | None) -> float | None:
    """Model FLOPs of pretraining on so many tokens; None where its option doesn't state its sizes."""
    sizes = stated_sizes(model)
    return None if model.sequence_length is None or tokens is None else _flops(sizes, model.sequence_length, tokens)


def _flops(sizes: Sizes | None, sequence_length: int, tokens: int) -> float | None:
    if sizes is None:
        return None
    return training_flops(
        matrix_parameters=sizes.matrix_parameters,
        num_layers=sizes.num_layers,
        d_model=sizes.d_model,
        sequence_length=sequence_length,
        tokens=tokens,
    )


def _memory(compute: Compute, plan: Plan, sizes: Sizes, ranks: int) -> int | None:
    if plan.batch_size % ranks:
        return None
    share = plan.batch_size // ranks
    return memory_bytes(
        block_parameters=sizes.block_parameters,
        num_layers=sizes.num_layers,
        d_model=sizes.d_model,
        hidden_size=sizes.hidden_size,
        vocab_size=sizes.embedding_size,
        tied=sizes.tied,
        sequence_length=plan.sequence_length,
        micro_batch_size=min(share, compute.micro_batch_size or share),
        bf16=compute.precision == "bf16",
        activation_checkpointing=compute.activation_checkpointing,
        ranks=ranks,
    ).total
