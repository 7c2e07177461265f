"""The model that is annealed, and the place on its trajectory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.architecture import check_architecture, check_fields
from sweep.config.machine import Resources
from sweep.config.pretraining import Pretraining
from sweep.config.published import Published, listed_steps
from sweep.config.types import (
    CHOICES,
    MAX_TRAJECTORY,
    BatchSize,
    Message,
    Name,
    PathText,
    SequenceLength,
    TrajectoryStep,
    Whole,
)

MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 256 + 2, 2**16
"""Of an embedded model: all bytes and two special tokens; ids are stored as uint16."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Model:
    """The model that is annealed."""

    name: Name
    source: Literal["embedded", "hub", "local", "published"]
    """embedded: pretrained here on first use; local: a checkpoint's folder, `checkpoint.path`; published: downloaded on
    first use; hub: any model's weights on the Hugging Face Hub, `checkpoint.repo` and `checkpoint.revision`."""
    checkpoint_step: TrajectoryStep | None
    """The default of `checkpoint.step`."""
    parameters: Annotated[Whole, Field(ge=1, le=10**13)] | None
    """Number of all parameters; None: as the checkpoint has."""
    sequence_length: SequenceLength | None
    batch_size: BatchSize | None
    vocab_size: Annotated[Whole, Field(ge=1, le=2**24)] | None
    architecture: Mapping[str, Any] | None
    """Fields of ai2-olmo's `ModelConfig`. A published model states those that decide its matrices, so that its cost is
    known before it is downloaded. None: as the checkpoint's config.yaml says."""
    pretraining: Pretraining | None
    """None for models that are not embedded."""
    published: Published | None = None
    """None for models that are not published."""
    resources: Resources | None = None
    """What a run asks of a cluster; None: hydra.launcher has to say it."""

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if self.source == "published" and self.published is None:
            raise ValueError("model.published=None: a published model needs to say where it is; see conf/model/")
        if self.source != "embedded":
            check_fields(self.architecture or {}, more=("embedding_size",))
            return self
        for key in ("parameters", "sequence_length", "batch_size", "vocab_size", "architecture", "pretraining"):
            if getattr(self, key) is None:
                raise ValueError(f"model.{key}=None: an embedded model is made here and needs it; see conf/model/")
        if not MIN_VOCAB_SIZE <= (self.vocab_size or 0) <= MAX_VOCAB_SIZE:
            raise ValueError(f"model.vocab_size={self.vocab_size}: must be from {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}")
        check_architecture(self.architecture or {})
        return self


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Checkpoint:
    """The place on the model's trajectory."""

    step: (
        Annotated[
            TrajectoryStep,
            Message(f"must be at least 1 (step 0 is the random initialisation) and at most {MAX_TRAJECTORY}"),
        ]
        | None
    )
    """Optimizer updates done; None is allowed with `model=local` only: the step that the checkpoint itself states."""
    path: PathText | None
    """Folder of the checkpoint, with `model=local`."""
    repo: Annotated[Name, Message("must be OWNER/NAME, as the Hub spells it")] | None = None
    """Repository on the Hugging Face Hub, with `model=hub`."""
    revision: Name | None = None
    """Branch, tag or commit there; a step in its name (`step1000`) is the checkpoint's. None: `main`."""
    source: Literal["auto", "http", "hub"] = "auto"
    """Of a published model. http: its authors' folders, with optimizer state; hub: the Hugging Face Hub;
    auto: http where the model has it."""


def named_step(revision: str) -> int | None:
    """The step in a revision's name: `step1000`, `stage1-step-40000`, `step_50k`; None if it has none."""
    found = re.search(r"(?:^|[^a-z])step[-_]?(\d+)(k?)(?![a-z0-9])", revision, re.IGNORECASE)
    return int(found[1]) * (1000 if found[2] else 1) if found else None


def check_on_trajectory(model: Model, step: int | None) -> None:
    """ValueError with the nearest steps where the embedded trajectory has no checkpoint at `step`."""
    assert model.pretraining is not None
    interval, last = model.pretraining.checkpoint_interval, model.pretraining.steps
    if step is None or step % interval or not interval <= step <= last:
        near = [] if step is None else [s for s in range(interval, last + 1, interval) if abs(s - step) < interval]
        hint = f"; nearest: {', '.join(map(str, near))}" if near else ""
        raise ValueError(
            f"checkpoint.step={step} is not a checkpoint of {model.name}: there is one every {interval} steps "
            f"from {interval} to {last}{hint}"
        )


def trajectory_steps(model: Model, interval: int | None) -> Iterable[int]:
    """Steps at which an embedded or published model has checkpoints.

    With an `interval`, an embedded model has one at every step, as its training can be stopped at any.
    """
    if model.pretraining is not None:
        every = 1 if interval is not None else model.pretraining.checkpoint_interval
        return range(every, model.pretraining.steps + 1, every)
    assert model.published is not None
    return listed_steps(model.published)
