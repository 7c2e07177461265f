"""What a run of a model asks of a cluster, when nothing else is chosen."""

from __future__ import annotations

from pydantic import field_validator

from sweep.config.frozen import frozen
from sweep.domain.errors import at_least


@frozen
class Resources:
    """Of one run, with its model's own batch and sequence length."""

    nodes: int
    gpus_per_node: int
    """0: it runs on CPUs."""
    mem_gb: float
    """Main memory of each node."""
    minutes_per_1000_updates: float
    minutes_per_task_set: float
    """Of scoring one suite once."""

    @field_validator("nodes")
    @classmethod
    def _at_least_one(cls, number: int) -> int:
        return at_least(1, number)

    @field_validator("gpus_per_node")
    @classmethod
    def _not_negative(cls, number: int) -> int:
        return at_least(0, number)

    @field_validator("mem_gb", "minutes_per_1000_updates", "minutes_per_task_set")
    @classmethod
    def _some(cls, number: float) -> float:
        if number <= 0:
            raise ValueError("must be above 0")
        return number
