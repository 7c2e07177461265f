"""What is known of a published training before anything is downloaded, in its authors' own numbers and names."""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from sweep.config.pretraining import Optimizer, Scheduler
from sweep.config.types import CHOICES, Factor, LearningRate, Name, Seed, Text, TrajectoryStep, Whole
from sweep.domain.errors import unknown

MAX_LISTED = 100_000
"""Checkpoints of a published training; the longest list has 1454."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Published:
    """A published training: where its checkpoints are, and what made them."""

    cite: Text
    """Where these facts were read."""
    http: Text | None
    """URL of a checkpoint's folder, with {step} and {folder} to fill in; None: only the Hub has it."""
    hub: Text | None
    """Repository on the Hugging Face Hub."""
    revision: Text | None
    """Name of a revision there, with {step} to fill in; * matches what only the Hub knows."""
    steps: tuple[tuple[TrajectoryStep, TrajectoryStep, TrajectoryStep, Name], ...]
    """The checkpoints: (first step, last step, interval, {folder}) for each part of the list."""
    tokenizer: Text
    """`identifier` as ai2-olmo spells it."""
    data: Text
    """The training's data, in words."""
    data_dtype: Literal["uint16", "uint32"]
    data_seed: Seed
    optimizer: Optimizer
    z_loss: Factor | None
    scheduler: Scheduler | None
    """None: not known well enough to compute the learning rate at a step."""
    known_lrs: dict[TrajectoryStep, LearningRate]
    """Step -> recorded current LR, where the scheduler above does not give it."""
    recipe: Name | None
    """Data recipe, in a suite that trains one model on many recipes."""
    recipes: tuple[Name, ...]
    """All recipes of the suite."""
    run: Name | None
    """Name of the training run, if there are several seeds."""
    instance_filter: dict[Name, Annotated[Whole, Field(ge=0, le=10**6)]] | None = None
    """Fields of ai2-olmo's `InstanceFilterConfig`; None: no instance was kept out of the loss."""
    size: Name | None = None
    """The model's size as the repository's name spells it."""
    hub_optimizer: Text | None = None
    """File with ai2-olmo's optimizer state, which some revisions on the Hub have; None: no revision has one."""

    @model_validator(mode="after")
    def _consistent(self) -> Published:
        if (number := sum(len(range(first, last + 1, every)) for first, last, every, _ in self.steps)) > MAX_LISTED:
            raise ValueError(f"model.published.steps lists {number} checkpoints: at most {MAX_LISTED} are allowed")
        if self.recipe is not None and self.recipe not in self.recipes:
            raise ValueError(f"model.published.recipe={self.recipe}: {unknown(self.recipe, self.recipes)}")
        return self


def folder_of(published: Published, step: int) -> str | None:
    """The {folder} of the checkpoint at `step`; None if the list has no such checkpoint."""
    for first, last, every, folder in published.steps:
        if first <= step <= last and (step - first) % every == 0:
            return folder
    return None


def listed_steps(published: Published) -> list[int]:
    """The steps of all checkpoints, ascending."""
    return sorted({s for first, last, every, _ in published.steps for s in range(first, last + 1, every)})


def nearest_steps(published: Published, step: int) -> list[int]:
    """The steps of the nearest checkpoints before and after `step`."""
    listed = listed_steps(published)
    index = bisect_left(listed, step)
    return listed[max(0, index - 1) : index + 1]


def from_hub(published: Published, source: str) -> bool:
    """Whether the checkpoint will come from the Hugging Face Hub."""
    return source == "hub" or published.http is None


def check_optimizer(name: str, published: Published, step: int, source: str) -> None:
    """ValueError if the checkpoint has no optimizer state for an anneal to keep (allenai/OLMo#796)."""
    if not from_hub(published, source) or published.hub_optimizer is not None:
        return
    assert published.hub and published.revision
    has = "checkpoint.source=http, which has it" if published.http else "a folder that has it, with model=local"
    raise ValueError(
        f"anneal.optimizer=keep: {published.hub}@{published.revision.format(step=step)}, where {name} comes from, has "
        f"weights without optimizer state (allenai/OLMo#796): take {has}, or start one with anneal.optimizer=fresh, "
        "anneal.warmup_steps and anneal.peak_lr"
    )


def check_listed(name: str, published: Published, step: int | None, source: str) -> None:
    """ValueError with the nearest steps where the chosen source has no checkpoint at `step`."""
    if step is None:
        raise ValueError(f"checkpoint.step=None: give the step of {name}, e.g. {published.steps[-1][1]}")
    if source == "http" and published.http is None:
        raise ValueError(f"checkpoint.source=http: {name} is on the Hub alone, {published.hub}")
    if source == "hub" and published.hub is None:
        raise ValueError(f"checkpoint.source=hub: {name} is not on the Hub")
    if folder_of(published, step) is None and not (source == "hub" and published.http):
        near = " and ".join(map(str, nearest_steps(published, step)))
        more = "; the Hub may have more: checkpoint.source=hub" if published.http and published.hub else ""
        raise ValueError(f"checkpoint.step={step} is not a checkpoint of {name}; nearest: {near}{more}")
