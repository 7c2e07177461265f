"""How a checkpoint is annealed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.merge import Merge
from sweep.config.types import (
    CHOICES,
    MAX_LR,
    Above0,
    BatchSize,
    Betas,
    Count,
    Factor,
    Flag,
    Fraction,
    LearningRate,
    Message,
    Name,
    Number,
    SequenceLength,
    Steps,
    among,
)
from sweep.domain.shapes import LINES, SHAPES

CONTROLS = ("none", "merge", "constant")
"""What an anneal is compared with: the checkpoint itself, an average, as many steps at the current LR."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Anneal:
    """How a checkpoint is annealed."""

    name: Name
    steps: Steps
    """Optimizer updates; 0: no training, the scores are those of the checkpoint or of `merge`."""
    shape: Annotated[str, Strict(), among((*SHAPES, *LINES))]
    """Decay shape, one of `shapes.SHAPES` or `shapes.LINES`."""
    peak_lr: (
        Annotated[LearningRate, Message(f"must be above 0 and at most {MAX_LR}, or null for the current LR")] | None
    )
    """Learning rate at which the decay starts; None: the current LR times `peak_scale`."""
    peak_scale: Annotated[Number, Field(gt=0, le=100), Message("must be above 0 and at most 100")] | None
    """Factor on the current LR; None: 1."""
    final_fraction: Fraction
    """Last learning rate over the peak."""
    warmup_steps: Steps
    """Number of the steps, at the beginning, that go on a straight line to the peak: from the current LR, or from 0
    with a fresh optimizer."""
    hold_steps: Steps
    """Number of the steps that stay at the peak before the decay begins."""
    optimizer: Literal["keep", "fresh"]
    """keep: Adam's moments and step count go on; fresh: they start from zero."""
    betas: Betas | None
    """Adam's; None: as in the checkpoint's optimizer."""
    weight_decay: Factor | None
    """None: as in the checkpoint's optimizer."""
    max_grad_norm: Above0 | None
    """None: as in the checkpoint's training."""
    z_loss: Factor | None
    """Factor on the mean of log(Z)^2 in the training objective, 0 for none; None: as in the checkpoint's training."""
    batch_size: BatchSize | None
    """Instances per update; None: as in the checkpoint's training."""
    sequence_length: SequenceLength | None
    """Tokens per instance; None: as in the checkpoint's training."""
    save_interval: Count
    """Updates from one saved state to the next; an interrupted run goes on from the last one."""
    keep: Flag
    """Keep the annealed state in the store, so that later task sets and longer holds start from it."""

    merge: Merge | None = None
    """Average these checkpoints instead of training; None: no average."""

    @property
    def arm(self) -> str:
        """Role of a run in a comparison: decay, or one of CONTROLS."""
        if self.steps == 0:
            return "none" if self.merge is None else "merge"
        return "constant" if self.shape == "constant" else "decay"

    @property
    def needs_optimizer(self) -> bool:
        """Whether the anneal goes on with the optimizer state of its checkpoint."""
        return self.steps > 0 and self.optimizer == "keep"

    @model_validator(mode="after")
    def _consistent(self) -> Anneal:
        _check_peak(self)
        _check_option(self)
        if self.steps:  # without training the other choices don't matter, and may be given beside other controls
            _check_phases(self)
            _check_warmup(self)
        return self


def _check_peak(anneal: Anneal) -> None:
    if anneal.peak_lr is not None and anneal.peak_scale is not None:
        raise ValueError(
            f"anneal.peak_lr={anneal.peak_lr} and anneal.peak_scale={anneal.peak_scale} contradict each other: give one"
        )
    if anneal.shape == "exponential" and anneal.final_fraction == 0:
        raise ValueError("anneal.shape=exponential never reaches 0: give anneal.final_fraction above 0, e.g. 0.01")


def _check_option(anneal: Anneal) -> None:
    """ValueError if anneal=none trains, or anneal=constant decays."""
    if anneal.name == "none" and anneal.steps:
        raise ValueError(
            f"anneal.steps={anneal.steps} is not for anneal=none, which trains nothing: only 0 is allowed; beside "
            "anneals of so many steps, controls=[none] adds it to a sweep"
        )
    if anneal.name == "constant" and anneal.shape != "constant":
        raise ValueError(
            f"anneal.shape={anneal.shape} is not for anneal=constant: only constant is allowed; beside anneals of "
            "other shapes, controls=[constant] adds it to a sweep"
        )


def _check_phases(anneal: Anneal) -> None:
    """ValueError if nothing is left to decay over, or an average is trained."""
    if anneal.merge is not None:
        raise ValueError(f"anneal.merge goes with anneal.steps=0, not {anneal.steps}: an average isn't trained further")
    if anneal.warmup_steps + anneal.hold_steps >= anneal.steps:
        raise ValueError(
            f"anneal.warmup_steps={anneal.warmup_steps} and anneal.hold_steps={anneal.hold_steps} leave nothing of "
            f"anneal.steps={anneal.steps} to decay over: together at most {anneal.steps - 1}"
        )


def _check_warmup(anneal: Anneal) -> None:
    """ValueError if a fresh optimizer has no warmup, or a warmup has nowhere to go."""
    if anneal.optimizer == "fresh" and not anneal.warmup_steps:
        raise ValueError(
            "anneal.optimizer=fresh starts Adam from zero moments, whose first updates would go at the full rate "
            "in the sign of one noisy gradient (allenai/OLMo#796): give anneal.warmup_steps above 0, e.g. 100"
        )
    if anneal.optimizer == "keep" and anneal.warmup_steps and anneal.peak_lr is None and anneal.peak_scale is None:
        raise ValueError(
            f"anneal.warmup_steps={anneal.warmup_steps} goes from the current LR to the peak, and "
            "without anneal.peak_lr or anneal.peak_scale they are the same: give one (anneal.peak_scale=1 is a "
            "plain hold), or anneal.hold_steps"
        )
