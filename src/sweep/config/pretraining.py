"""How a model was pretrained: its AdamW, its learning rates, and the trajectory of an embedded model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.types import (
    CHOICES,
    MAX_STEPS,
    Betas,
    Factor,
    Flag,
    Fraction,
    LearningRate,
    Message,
    Number,
    Seed,
    Whole,
)
from sweep.domain.shapes import SHAPES

Updates = Annotated[Whole, Field(ge=1, le=MAX_STEPS)]
Units = Annotated[Number, Field(ge=0, le=10**16)]
"""Steps, or tokens."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Optimizer:
    """AdamW as the pretraining used it."""

    betas: Betas
    eps: Annotated[Number, Field(gt=0, le=1)]
    weight_decay: Factor
    """Decoupled; on matrices only, unless the two fields below say otherwise."""
    decay_norm_and_bias: Flag
    decay_embeddings: Flag
    max_grad_norm: Annotated[Number, Field(gt=0, le=10**6), Message("must be above 0, or null for no clipping")] | None


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Scheduler:
    """Linear warmup, then a decay; the names are those of ai2-olmo's `SchedulerConfig`."""

    name: Literal["cosine_with_warmup", "linear_with_warmup"]
    units: Literal["steps", "tokens"]
    """Unit of the two fields below."""
    t_warmup: Units
    t_max: Units
    """Where the decay ends; the training may have stopped before."""
    peak_lr: LearningRate
    alpha_f: Fraction
    """Last learning rate over the peak."""
    warmup_min_lr: Annotated[Number, Field(ge=0, le=1)] | None
    """Learning rate at which the warmup starts; None: a tenth of the peak."""

    def lr_at(self, t: float) -> float:
        """Learning rate at `t`, in `units`; from t_max on it stays, as in ai2-olmo's `CosWithWarmup`."""
        if t < self.t_warmup:
            start = 0.1 * self.peak_lr if self.warmup_min_lr is None else self.warmup_min_lr
            return start + (self.peak_lr - start) * t / self.t_warmup
        progress = min((t - self.t_warmup) / (self.t_max - self.t_warmup), 1.0)
        return self.peak_lr * SHAPES[self.name.removesuffix("_with_warmup")](progress, self.alpha_f)


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Pretraining:
    """How an embedded model is trained: linear warmup, then a constant learning rate."""

    steps: Updates
    """Length of the trajectory in updates."""
    checkpoint_interval: Updates
    """Updates from one checkpoint to the next."""
    peak_lr: LearningRate
    warmup_steps: Updates
    seed: Seed
    """Of the initial weights and of the data order."""
    optimizer: Optimizer

    @model_validator(mode="after")
    def _has_a_checkpoint(self) -> Pretraining:
        if self.checkpoint_interval > self.steps:
            raise ValueError(
                f"checkpoint_interval={self.checkpoint_interval}: must be from 1 to "
                f"model.pretraining.steps={self.steps}"
            )
        return self
