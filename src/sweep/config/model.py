"""What is annealed, and where on its trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from sweep.config.frozen import frozen


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


@frozen
class Pretraining:
    """How the embedded trajectory is trained: linear warmup, then a constant learning rate."""

    steps: int
    """Length of the trajectory in updates."""
    checkpoint_interval: int
    """A checkpoint every so many updates."""
    peak_lr: float
    warmup_steps: int
    seed: int
    """Of the initial weights and of the data order."""
    optimizer: Optimizer


@frozen
class Model:
    """What is annealed."""

    name: str
    source: Literal["embedded", "local"]
    """embedded: pretrained here on first use; local: an OLMo unsharded checkpoint folder, `checkpoint.path`."""
    checkpoint_step: int | None
    """The step taken where none is chosen."""
    parameters: int | None
    """All parameters; None: as the checkpoint has."""
    sequence_length: int | None
    batch_size: int | None
    vocab_size: int | None
    architecture: Mapping[str, Any] | None
    """ai2-olmo's `ModelConfig`, its own names; None: as the checkpoint's config.yaml says."""
    pretraining: Pretraining | None


@frozen
class Checkpoint:
    """Where on the trajectory."""

    step: int | None
    """Optimizer updates done; None only with `model=local`: whatever step the checkpoint is at."""
    path: str | None
    """Folder of the checkpoint, with `model=local`."""

    @field_validator("step")
    @classmethod
    def _positive(cls, step: int | None) -> int | None:
        if step is not None and step < 1:
            raise ValueError("must be at least 1: step 0 is the random initialisation")
        return step


def check_on_trajectory(model: Model, step: int | None) -> None:
    """ValueError with the nearest ones where the embedded trajectory has no checkpoint at `step`."""
    assert model.pretraining is not None
    every, last = model.pretraining.checkpoint_interval, model.pretraining.steps
    if step is None or step % every or not every <= step <= last:
        near = [] if step is None else [s for s in range(every, last + 1, every) if abs(s - step) < every]
        hint = f"; nearest: {', '.join(map(str, near))}" if near else ""
        raise ValueError(
            f"checkpoint.step={step} is not a checkpoint of {model.name}: there is one every {every} steps "
            f"from {every} to {last}{hint}"
        )
