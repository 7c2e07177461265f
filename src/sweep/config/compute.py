"""On what it runs."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, cast

from pydantic import field_validator

from sweep.config.frozen import frozen
from sweep.domain.errors import at_least


@frozen
class Compute:
    """On what it runs."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int
    """A number and not the machine's cores, so that the same configuration gives the same bits."""
    precision: Literal["fp32", "bf16"]
    """Of the anneal's forward and backward pass; weights, optimizer, loss and all scoring are fp32 in any case."""
    micro_batch_size: int | None
    """Instances of a forward and backward pass on each rank; None: the rank's whole batch."""
    activation_checkpointing: bool
    """Keep only each block's input and compute the rest again in the backward pass: less memory, the same numbers."""
    compile: bool
    """Compile each block (torch.compile)."""

    @property
    def plain(self) -> Compute:
        """The same machine without what is chosen for anneals: how embedded models are pretrained."""
        return dataclasses.replace(cast(Any, self), precision="fp32", micro_batch_size=None, compile=False)

    @field_validator("threads", "micro_batch_size")
    @classmethod
    def _at_least_one(cls, number: int | None) -> int | None:
        return None if number is None else at_least(1, number)
