"""What is known of a published training before anything of it is loaded, in its authors' own numbers and names."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from sweep.config.pretraining import Optimizer, Scheduler
from sweep.config.types import CHOICES
from sweep.domain.errors import unknown


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Published:
    """A published training: where its checkpoints are, and what made them."""

    cite: str
    """Where these facts were read."""
    http: str | None
    """URL of a checkpoint's folder, with {step} and {folder} to fill in; None: only the Hub has it."""
    hub: str | None
    """Repository on the Hugging Face Hub."""
    revision: str | None
    """Its revisions: {step} to fill in, * for what the Hub alone knows."""
    steps: tuple[tuple[int, int, int, str], ...]
    """The checkpoints there are: from the first step to the last, one every so many, all in {folder}."""
    tokenizer: str
    """`identifier` as ai2-olmo spells it."""
    data: str
    """The training's data, in words."""
    data_dtype: Literal["uint16", "uint32"]
    data_seed: int
    optimizer: Optimizer
    z_loss: float | None
    scheduler: Scheduler | None
    """None: not known well enough to compute the learning rate at a step."""
    known_lrs: dict[int, float]
    """Learning rates on record as in force at a step, where the scheduler above does not give them."""
    recipe: str | None
    """Data recipe, of a suite that trains one model on many."""
    recipes: tuple[str, ...]
    """The recipes there are."""
    run: str | None
    """Which of several seeds."""
    instance_filter: dict[str, int] | None = None
    """ai2-olmo's `InstanceFilterConfig`, its own names; None: no instance was kept out of the loss."""
    size: str | None = None
    """As the repository's name spells it."""
    hub_optimizer: str | None = None
    """File with the optimizer state, as ai2-olmo writes it, that some of the Hub's revisions have; None: none has."""

    @model_validator(mode="after")
    def _a_known_recipe(self) -> Published:
        if self.recipe is not None and self.recipe not in self.recipes:
            raise ValueError(f"model.published.recipe={self.recipe}: {unknown(self.recipe, self.recipes)}")
        return self


def folder_of(published: Published, step: int) -> str | None:
    """The {folder} of the checkpoint at `step`; None where the list has no such checkpoint."""
    for first, last, every, folder in published.steps:
        if first <= step <= last and (step - first) % every == 0:
            return folder
    return None


def listed_steps(published: Published) -> list[int]:
    """The steps of all checkpoints there are, ascending."""
    return sorted({s for first, last, every, _ in published.steps for s in range(first, last + 1, every)})


def nearest_steps(published: Published, step: int) -> list[int]:
    """The listed checkpoints before and after `step`."""
    listed = listed_steps(published)
    place = bisect_left(listed, step)
    return listed[max(0, place - 1) : place + 1]


def from_hub(published: Published, source: str) -> bool:
    """Whether the checkpoint will come from the Hugging Face Hub."""
    return source == "hub" or published.http is None


def check_optimizer(name: str, published: Published, step: int, source: str) -> None:
    """ValueError where an anneal that keeps the optimizer gets a checkpoint that has none (allenai/OLMo#796)."""
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
    """ValueError with the nearest ones where the chosen source has no checkpoint at `step`."""
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
