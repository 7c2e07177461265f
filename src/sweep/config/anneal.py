"""How it is annealed."""

from __future__ import annotations

from pydantic import field_validator, model_validator

from sweep.config.frozen import frozen
from sweep.refusal import at_least, one_of
from sweep.schedule import SHAPES

MAX_LR = 0.1
"""No published language-model pretraining with Adam comes near; a larger value is a slip of the exponent."""


@frozen
class Anneal:
    """How it is annealed."""

    name: str
    steps: int
    """Optimizer updates."""
    shape: str
    """Decay shape, one of `schedule.SHAPES`."""
    peak_lr: float | None
    """Learning rate the decay starts from; None: the one in force at the checkpoint, times `peak_scale`."""
    peak_scale: float | None
    """Factor on the learning rate in force; None: 1."""
    final_fraction: float
    """Last learning rate over the peak."""
    hold_steps: int
    """Of the steps, so many at the peak before the decay begins."""
    weight_decay: float | None
    """None: as in the checkpoint's optimizer."""
    max_grad_norm: float | None
    """None: as in the checkpoint's training."""
    save_interval: int
    """A state that an interrupted run can go on from, every so many updates."""
    keep: bool
    """Keep the annealed state in the store, so that later task sets and longer holds start from it."""

    @field_validator("shape")
    @classmethod
    def _known(cls, shape: str) -> str:
        return one_of(shape, SHAPES)

    @field_validator("steps", "save_interval")
    @classmethod
    def _at_least_one(cls, number: int) -> int:
        return at_least(1, number)

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

    @field_validator("weight_decay")
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
        if not 0 <= self.hold_steps < self.steps:
            raise ValueError(
                f"anneal.hold_steps={self.hold_steps} must be from 0 to anneal.steps - 1 = {self.steps - 1}"
            )
        return self
