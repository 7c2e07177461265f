"""Which checkpoints of a trajectory are averaged, in place of an anneal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, Strict
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Paths, TrajectoryStep, Whole, among
from sweep.domain.shapes import WEIGHTS


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Merge:
    """The average of the last checkpoints up to and including the chosen one; nothing is trained."""

    last: Annotated[Whole, Field(ge=2, le=1000)]
    """Number of checkpoints."""
    weights: Annotated[str, Strict(), among(WEIGHTS)]
    """uniform, or the decay shape that the average emulates: one of `shapes.WEIGHTS`."""
    interval: TrajectoryStep | None
    """Updates from one of them to the next; None: all checkpoints that the model has."""
    paths: Paths | None = None
    """Folders of the earlier checkpoints with model=local, or patterns that match them."""


def merged_steps(merge: Merge, name: str, step: int, available: Iterable[int]) -> tuple[int, ...]:
    """Steps of the averaged checkpoints of model `name`, ascending, the last one `step`.

    `available` are the steps at which the model has checkpoints. ValueError if it lacks one that is needed.
    """
    steps = {s for s in available if s < step} | {step}
    wanted = sorted(steps)[-merge.last :]
    if merge.interval is not None:
        wanted = [step - i * merge.interval for i in reversed(range(merge.last))]
    if len(wanted) < merge.last or (absent := [s for s in wanted if s not in steps]):
        interval = "" if merge.interval is None else f" and anneal.merge.interval={merge.interval}"
        why = f"{len(steps)} are there" if len(wanted) < merge.last else f"there is none at step {absent[-1]}"
        raise ValueError(
            f"anneal.merge.last={merge.last}{interval} needs {merge.last} checkpoints of {name} up to step {step}, and "
            f"{why}: take a smaller anneal.merge.last, another anneal.merge.interval, or a later checkpoint.step"
        )
    return tuple(wanted)
