"""Which checkpoints of a trajectory are averaged, in place of an anneal."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import field_validator

from sweep.config.data import one_or_many
from sweep.config.frozen import frozen
from sweep.domain.averaging import WEIGHTS
from sweep.domain.errors import at_least, one_of


@frozen
class Merge:
    """The last checkpoints up to the chosen one, itself included, averaged weight by weight; nothing is trained."""

    last: int
    """So many."""
    weights: str
    """uniform, or the decay shape that the average emulates: one of `merging.WEIGHTS`."""
    interval: int | None
    """Updates between two of them; None: as the checkpoints come."""
    paths: tuple[str, ...] | None = None
    """With model=local: folders of the earlier checkpoints, or patterns of them."""

    _one = field_validator("paths", mode="before")(one_or_many)

    @field_validator("last")
    @classmethod
    def _at_least_two(cls, last: int) -> int:
        return at_least(2, last)

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: str) -> str:
        return one_of(weights, WEIGHTS)

    @field_validator("interval")
    @classmethod
    def _at_least_one(cls, interval: int | None) -> int | None:
        return None if interval is None else at_least(1, interval)

    @field_validator("paths")
    @classmethod
    def _some(cls, paths: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if paths is not None and not (paths and all(paths)):
            raise ValueError("must name folders of earlier checkpoints, or be null")
        return paths


def merged_steps(merge: Merge, name: str, step: int, listed: Iterable[int]) -> tuple[int, ...]:
    """Steps of the averaged checkpoints of model `name`, ascending, the last one `step`; ValueError where some are not.

    `listed` are the steps that there are checkpoints of.
    """
    there = {s for s in listed if s < step} | {step}
    wanted = sorted(there)[-merge.last :]
    if merge.interval is not None:
        wanted = [step - i * merge.interval for i in reversed(range(merge.last))]
    if len(wanted) < merge.last or (absent := [s for s in wanted if s not in there]):
        spaced = "" if merge.interval is None else f" and anneal.merge.interval={merge.interval}"
        why = f"{len(there)} are there" if len(wanted) < merge.last else f"there is none at step {absent[-1]}"
        raise ValueError(
            f"anneal.merge.last={merge.last}{spaced} needs {merge.last} checkpoints of {name} up to step {step}, and "
            f"{why}: take a smaller anneal.merge.last, another anneal.merge.interval, or a later checkpoint.step"
        )
    return tuple(wanted)
