"""How it is annealed."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationInfo, field_validator, model_validator

from sweep.config.frozen import frozen
from sweep.config.merge import Merge
from sweep.config.optimizer import two_below_one
from sweep.domain.errors import at_least, one_of
from sweep.domain.schedule import SHAPES

MAX_LR = 0.1
"""No published language-model pretraining with Adam comes near; a larger value is a slip of the exponent."""

CONTROLS = ("none", "merge", "constant")
"""What an anneal is compared with: the checkpoint itself, an average, as many updates at the learning rate in force."""


@frozen
class Anneal:
    """How it is annealed."""

    name: str
    steps: int
    """Optimizer updates; 0: none, the checkpoint's own scores or those of `merge`."""
    shape: str
    """Decay shape, one of `schedule.SHAPES`."""
    peak_lr: float | None
    """Learning rate the decay starts from; None: the one in force at the checkpoint, times `peak_scale`."""
    peak_scale: float | None
    """Factor on the learning rate in force; None: 1."""
    final_fraction: float
    """Last learning rate over the peak."""
    warmup_steps: int
    """Of the steps, so many at first on a straight line to the peak: from the learning rate in force, or from 0 with a
    fresh optimizer."""
    hold_steps: int
    """Of the steps, so many at the peak before the decay begins."""
    optimizer: Literal["keep", "fresh"]
    """keep: Adam's moments and step count go on; fresh: they start from zero."""
    betas: tuple[float, float] | None
    """Adam's; None: as in the checkpoint's optimizer."""
    weight_decay: float | None
    """None: as in the checkpoint's optimizer."""
    max_grad_norm: float | None
    """None: as in the checkpoint's training."""
    z_loss: float | None
    """Factor on log(Z)^2 in what is minimised, 0 for none; None: as in the checkpoint's training."""
    batch_size: int | None
    """Instances an update; None: as in the checkpoint's training."""
    sequence_length: int | None
    """Tokens an instance; None: as in the checkpoint's training."""
    save_interval: int
    """A state that an interrupted run can go on from, every so many updates."""
    keep: bool
    """Keep the annealed state in the store, so that later task sets and longer holds start from it."""

    merge: Merge | None = None
    """Average these checkpoints instead of training; None: don't."""

    @property
    def arm(self) -> str:
        """What a run is to a comparison: decay, or one of CONTROLS."""
        if self.steps == 0:
            return "none" if self.merge is None else "merge"
        return "constant" if self.shape == "constant" else "decay"

    @property
    def needs_optimizer(self) -> bool:
        """Whether it goes on with the optimizer state of its checkpoint."""
        return self.steps > 0 and self.optimizer == "keep"

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        return one_of(shape, SHAPES)

    @field_validator("steps")
    @classmethod
    def _at_least_none(cls, number: int) -> int:
        return at_least(0, number)

    @field_validator("save_interval")
    @classmethod
    def _at_least_one(cls, number: int) -> int:
        return at_least(1, number)

    @field_validator("warmup_steps", "hold_steps")
    @classmethod
    def _count(cls, number: int) -> int:
        return at_least(0, number)

    @field_validator("batch_size", "sequence_length")
    @classmethod
    def _size(cls, number: int | None, info: ValidationInfo) -> int | None:
        return None if number is None else at_least(2 if info.field_name == "sequence_length" else 1, number)

    _betas = field_validator("betas", mode="before")(two_below_one)

    @field_validator("peak_lr")
    @classmethod
    def _sane_lr(cls, lr: float | None) -> float | None:
        if lr is not None and not 0 < lr <= MAX_LR:
            raise ValueError(f"must be above 0 and at most {MAX_LR}, or null for the learning rate in force")
        return lr

    @field_validator("peak_scale")
    @classmethod
    def _sane_scale(cls, scale: float | None) -> float | None:
        if scale is not None and not 0 < scale <= 100:
            raise ValueError("must be above 0 and at most 100")
        return scale

    @field_validator("final_fraction")
    @classmethod
    def _fraction(cls, fraction: float) -> float:
        if not 0 <= fraction <= 1:
            raise ValueError("must be between 0 and 1")
        return fraction

    @field_validator("weight_decay", "z_loss")
    @classmethod
    def _not_negative(cls, value: float | None) -> float | None:
        if value is not None and value < 0:
            raise ValueError("must not be negative")
        return value

    @field_validator("max_grad_norm")
    @classmethod
    def _positive(cls, value: float | None) -> float | None:
        if value is not None and value <= 0:
            raise ValueError("must be above 0, or null for the checkpoint's own")
        return value

    @model_validator(mode="after")
    def _together(self) -> Anneal:
        if self.peak_lr is not None and self.peak_scale is not None:
            raise ValueError(
                f"anneal.peak_lr={self.peak_lr} and anneal.peak_scale={self.peak_scale} contradict each other: give one"
            )
        if self.shape == "exponential" and self.final_fraction == 0:
            raise ValueError("anneal.shape=exponential never reaches 0: give anneal.final_fraction above 0, e.g. 0.01")
        if self.name == "none" and self.steps:
            raise ValueError(
                f"anneal.steps={self.steps} is not for anneal=none, which trains nothing: only 0 is allowed; beside "
                "anneals of so many steps, controls=[none] adds it to a sweep"
            )
        if self.name == "constant" and self.shape != "constant":
            raise ValueError(
                f"anneal.shape={self.shape} is not for anneal=constant: only constant is allowed; beside anneals of "
                "other shapes, controls=[constant] adds it to a sweep"
            )
        if self.steps == 0:  # what would shape the anneal doesn't matter, and may be given beside other arms
            return self
        if self.warmup_steps + self.hold_steps >= self.steps:
            raise ValueError(
                f"anneal.warmup_steps={self.warmup_steps} and anneal.hold_steps={self.hold_steps} leave nothing of "
                f"anneal.steps={self.steps} to decay over: together at most {self.steps - 1}"
            )
        if self.optimizer == "fresh" and not self.warmup_steps:
            raise ValueError(
                "anneal.optimizer=fresh starts Adam from zero moments, whose first updates would go at the full rate "
                "in the sign of one noisy gradient (allenai/OLMo#796): give anneal.warmup_steps above 0, e.g. 100"
            )
        if self.optimizer == "keep" and self.warmup_steps and self.peak_lr is None and self.peak_scale is None:
            raise ValueError(
                f"anneal.warmup_steps={self.warmup_steps} goes from the learning rate in force to the peak, and "
                "without anneal.peak_lr or anneal.peak_scale they are the same: give one (anneal.peak_scale=1 is a "
                "plain hold), or anneal.hold_steps"
            )
        if self.merge is not None:
            raise ValueError(
                f"anneal.merge goes with anneal.steps=0, not {self.steps}: an average isn't trained further"
            )
        return self
