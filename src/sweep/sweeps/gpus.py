"""The GPUs that a run will have, on this machine or in a job of a cluster; and the precision of its checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.config import Checkpoint, Model
from sweep.config.machine import Precision, Resources
from sweep.planning.auto_compute import CLUSTER_GPU_BYTES, Gpus
from sweep.system.files import read_bytes
from sweep.system.hardware import gpu_memories
from sweep.system.ranks import world_size


def gpus_for(device: str, resources: Resources | None, jobs: Mapping[str, Any] | None) -> Gpus | None:
    """The GPUs of one run; None if it runs on a CPU. `jobs` are the settings of a cluster's jobs, if it runs in one."""
    if device == "cpu":
        return None
    if jobs is None:
        memories = gpu_memories()
        return Gpus(memory=min(memories), ranks=world_size()) if memories else None
    asked = jobs.get("gpus_per_node")
    gpus = asked if asked is not None else resources.gpus_per_node if resources is not None else 0
    nodes = jobs.get("nodes") or (resources.nodes if resources is not None else 1)
    return Gpus(memory=CLUSTER_GPU_BYTES, ranks=gpus * nodes) if gpus else None


def trained_in(model: Model, checkpoint: Checkpoint) -> Precision:
    """The precision of the checkpoint's own training, bf16 or fp32; fp32 where nothing says it.

    Published models were trained in bf16 (`precision: amp_bf16` in their configurations), embedded ones in fp32.
    """
    if model.published is not None:
        return "bf16"
    if checkpoint.path is None or not (file := Path(checkpoint.path, "config.yaml")).is_file():
        return "fp32"
    return "bf16" if re.search(rb"^precision:\s*amp_bf16\b", read_bytes(file), re.MULTILINE) else "fp32"
