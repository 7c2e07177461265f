"""What `compute.…=auto` stands for: settled from the model's sizes and the GPU's memory, before anything is loaded.

On a CPU it is fp32, the whole batch, and nothing computed twice: one configuration gives the same bits everywhere.
On a GPU it is the precision of the checkpoint's own training, and as few passes as the memory allows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sweep.config import Compute, RunConfig
from sweep.config.machine import Precision
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import memory_bytes, pass_of
from sweep.planning.model_sizes import stated_sizes

AUTO = "auto"
ON_CPU: dict[str, Any] = {"precision": "fp32", "micro_batch_size": None, "activation_checkpointing": False}
"""The choices that may be `auto`, and what they are on a CPU, or where nothing is known."""
USABLE = 0.9
"""The part of a GPU's memory that an update may fill: the rest is for CUDA itself and for fragments."""
CLUSTER_GPU_BYTES = 80 * 10**9
"""Taken for the memory of a cluster's GPU, which can't be asked before a job runs: an A100's or H100's."""


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The GPUs that a run will have."""

    memory: int
    """Bytes of each."""
    ranks: int
    """How many share an update's batch."""


def without_autos(chosen: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """A plain configuration with what holds on a CPU for each `auto`; and which leaves of compute these are."""
    compute = chosen.get("compute")
    if not isinstance(compute, dict):
        return chosen, frozenset()
    autos = frozenset(name for name in ON_CPU if compute.get(name) == AUTO)
    return {**chosen, "compute": {**compute, **{name: ON_CPU[name] for name in autos}}}, autos


def settled(config: RunConfig, autos: Collection[str], trained_in: Precision, gpus: Gpus) -> Compute:
    """The run's compute, where the leaves in `autos` follow from the rest.

    `trained_in` is the precision of the checkpoint's own training, fp32 or bf16. Refusal if no setting would fit.
    """
    compute = config.compute
    if "precision" in autos:
        compute = dataclasses.replace(compute, precision=trained_in)
    passes = {"micro_batch_size", "activation_checkpointing"} & set(autos)
    sizes, batch = stated_sizes(config.model), config.anneal.batch_size or config.model.batch_size
    length = config.anneal.sequence_length or config.model.sequence_length
    if not passes or sizes is None or batch is None or length is None:
        return compute
    share = batch // gpus.ranks or 1
    needed = 0
    for chosen in _candidates(compute, passes, share):
        work = pass_of(chosen, sequence_length=length, share=share)
        needed = memory_bytes(sizes, work, ranks=gpus.ranks).total
        if needed <= USABLE * gpus.memory:
            return chosen
    raise Refusal(
        f"compute.micro_batch_size=auto: an update of {config.model.name} takes {needed / 1e9:.0f} GB even with one "
        f"instance a pass, and {gpus.ranks} GPUs of {gpus.memory / 1e9:.0f} GB have less each: it needs more GPUs, "
        "which share the state"
    )


def _candidates(compute: Compute, passes: Collection[str], share: int) -> Iterator[Compute]:
    """Settings to try, the fastest first: computing a block twice costs a third more, small passes next to nothing."""
    again = (False, True) if "activation_checkpointing" in passes else (compute.activation_checkpointing,)
    sizes = [compute.micro_batch_size]
    if "micro_batch_size" in passes:
        sizes = [None, *(share // parts for parts in range(2, share + 1) if share % parts == 0)]
    for checkpointing in again:
        for size in sizes:
            yield dataclasses.replace(compute, micro_batch_size=size, activation_checkpointing=checkpointing)
