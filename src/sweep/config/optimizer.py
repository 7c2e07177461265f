"""AdamW as a pretraining used it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationInfo, field_validator

from sweep.config.frozen import frozen


def two_below_one(betas: Any) -> Any:
    """Adam's betas, or None; ValueError where they can't be."""
    if betas is not None and not (
        isinstance(betas, list | tuple)
        and len(betas) == 2
        and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas)
    ):
        raise ValueError("must be two numbers from 0 to below 1, e.g. [0.9, 0.95]")
    return betas


@frozen
class Optimizer:
    """AdamW as the pretraining used it."""

    betas: tuple[float, float]
    eps: float
    weight_decay: float
    """Decoupled; on matrices only unless the two fields below say otherwise."""
    decay_norm_and_bias: bool
    decay_embeddings: bool
    max_grad_norm: float | None

    _betas = field_validator("betas", mode="before")(two_below_one)

    @field_validator("eps", "max_grad_norm")
    @classmethod
    def _above_zero(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and value <= 0:
            raise ValueError("must be above 0" + (", or null for no clipping" if info.field_name != "eps" else ""))
        return value

    @field_validator("weight_decay")
    @classmethod
    def _not_negative(cls, decay: float) -> float:
        if decay < 0:
            raise ValueError("must not be negative")
        return decay
