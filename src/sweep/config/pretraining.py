"""How a model was pretrained: its AdamW, its learning rates, and the trajectory of an embedded model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Betas, Count, LearningRate, Message
from sweep.domain.schedule import SHAPES


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Optimizer:
    """AdamW as the pretraining used it."""

    betas: Betas
    eps: PositiveFloat
    weight_decay: NonNegativeFloat
    """Decoupled; on matrices only, unless the two fields below say otherwise."""
    decay_norm_and_bias: bool
    decay_embeddings: bool
    max_grad_norm: Annotated[float, Field(gt=0), Message("must be above 0, or null for no clipping")] | None


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Scheduler:
    """Linear warmup, then a decay; the names are those of ai2-olmo's `SchedulerConfig`."""

    name: Literal["cosine_with_warmup", "linear_with_warmup"]
    units: Literal["steps", "tokens"]
    """Unit of the two fields below."""
    t_warmup: float
    t_max: float
    """Where the decay ends; the training may have stopped before."""
    peak_lr: float
    alpha_f: float
    """Last learning rate over the peak."""
    warmup_min_lr: float | None
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

    steps: Count
    """Length of the trajectory in updates."""
    checkpoint_interval: int
    """Updates from one checkpoint to the next."""
    peak_lr: LearningRate
    warmup_steps: Count
    seed: NonNegativeInt
    """Of the initial weights and of the data order."""
    optimizer: Optimizer

    @model_validator(mode="after")
    def _has_a_checkpoint(self) -> Pretraining:
        if not 1 <= self.checkpoint_interval <= self.steps:
            raise ValueError(
                f"checkpoint_interval={self.checkpoint_interval}: must be from 1 to "
                f"model.pretraining.steps={self.steps}"
            )
        return self
