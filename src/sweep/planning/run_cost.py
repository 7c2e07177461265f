"""What a run will do and cost, computed from its configuration and the sizes that its model's option states."""

from __future__ import annotations

import dataclasses

import numpy as np

from sweep.config import Anneal, Compute, Model, RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import memory_bytes, pass_of
from sweep.planning.model_sizes import Sizes, stated_sizes
from sweep.planning.plan import Plan, make_plan, planned_rates, training_flops
from sweep.planning.pretraining_schedule import expected_position, known_lr

RANKS = (1, 2, 4, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """What one run will do; a field is None if only the checkpoint knows it."""

    config: RunConfig
    lr: float | None
    """The current LR of the checkpoint."""
    tokens: int | None = None
    """Tokens of the anneal."""
    tokens_seen: int | None = None
    """Tokens of the checkpoint's own training."""
    flops: float | None = None
    """Model FLOPs of the anneal."""
    memory: tuple[int | None, ...] | None = None
    """Bytes of an update on each of RANKS; an element is None if so many ranks can't share the batch."""

    @property
    def learning_rates(self) -> np.ndarray:
        """(steps,) float64, one per update; computed anew each time, as those of 10,000 runs would fill the memory."""
        return planned_rates(self.config.anneal, self.lr or 0.0)


def forecast(config: RunConfig) -> Forecast:
    """What this run will do; Refusal if it can't be run, or if only its checkpoint knows the current LR."""
    model, step = config.model, config.checkpoint.step
    lr = known_lr(model, config.checkpoint)
    if lr is None and _depends_on_current_lr(config.anneal):
        checkpoint = model.name if step is None else f"{model.name} at step {step}"
        raise Refusal(
            f"the current LR of {checkpoint} is known from its checkpoint alone, which a preview doesn't "
            "read: give anneal.peak_lr, without anneal.warmup_steps or with anneal.optimizer=fresh"
        )
    if step is None or model.batch_size is None or model.sequence_length is None:
        planned_rates(config.anneal, lr or 0.0)  # a Refusal where they can't be
        return Forecast(config=config, lr=lr)
    plan = make_plan(config, dataclasses.replace(expected_position(model, step), lr=lr or 0.0))
    sizes = stated_sizes(model)
    return Forecast(
        config=config,
        lr=lr,
        tokens=plan.tokens,
        tokens_seen=plan.position.tokens,
        flops=_flops(sizes, plan.sequence_length, plan.tokens),
        memory=None if sizes is None else tuple(_memory(config.compute, plan, sizes, ranks) for ranks in RANKS),
    )


def _depends_on_current_lr(anneal: Anneal) -> bool:
    warms_up_from_it = anneal.warmup_steps > 0 and anneal.optimizer == "keep"
    return anneal.steps > 0 and (anneal.peak_lr is None or warms_up_from_it)


def pretraining_flops(model: Model, tokens: int | None) -> float | None:
    """Model FLOPs of pretraining on so many tokens; None if the model's option doesn't state its sizes."""
    if model.sequence_length is None or tokens is None:
        return None
    return _flops(stated_sizes(model), model.sequence_length, tokens)


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
    work = pass_of(compute, sequence_length=plan.sequence_length, share=plan.batch_size // ranks)
    return memory_bytes(sizes, work, ranks=ranks).total
