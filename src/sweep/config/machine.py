"""The machine that a run uses: how it computes there, and what it asks of a cluster."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, MAX_THREADS, Above0, BatchSize, Flag, Whole

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Compute:
    """How a run computes."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[Whole, Field(ge=1, le=MAX_THREADS)]
    """A fixed number, not the number of the machine's cores, so that the same configuration gives the same bits."""
    precision: Precision
    """Of the anneal's forward and backward passes. Weights, optimizer, loss and all scoring are always fp32."""
    micro_batch_size: BatchSize | None
    """Instances of one forward and backward pass on each rank; None: the rank's whole batch."""
    activation_checkpointing: Flag
    """Keep only the input of each block, and compute the rest again in the backward pass: it takes less memory and
    gives the same numbers."""
    compile: Flag
    """Compile each block with torch.compile."""
    reuse: Literal["same", "any"] = "same"
    """Which states and scores of the store are taken. same: those of this build, the version of torch and the kind of
    CPU or GPU, which decide the last bits; any: where this build has none, those of another build."""

    @property
    def plain(self) -> Compute:
        """The same machine without the options for anneals; embedded models are pretrained like this."""
        return dataclasses.replace(self, precision="fp32", micro_batch_size=None, compile=False)


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Resources:
    """What one run of a model asks of a cluster, with the model's own batch size and sequence length."""

    nodes: Annotated[Whole, Field(ge=1, le=4096)]
    gpus_per_node: Annotated[Whole, Field(ge=0, le=1024)]
    """0: the run uses CPUs."""
    mem_gb: Above0
    """Main memory of each node."""
    minutes_per_1000_updates: Above0
    minutes_per_task_set: Above0
    """To score one suite once."""
