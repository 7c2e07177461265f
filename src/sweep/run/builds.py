"""The build of this run, and those whose states and scores it takes."""

from __future__ import annotations

import torch

from sweep.config import Compute
from sweep.planning.keys import BEFORE_BUILDS
from sweep.system.builds import cpu_build, gpu_build, record, recorded
from sweep.system.store import Store


def this_build(compute: Compute, device: torch.device) -> str:
    """Torch's version and the kind of processor, which decide the last bits of all that is computed."""
    version = str(torch.__version__)
    if device.type == "cuda":
        return gpu_build(version, torch.cuda.get_device_name(device))
    return cpu_build(version, torch.backends.cpu.get_cpu_capability(), compute.precision)


def builds(store: Store, compute: Compute, device: torch.device) -> list[str | None]:
    """This build, and with compute.reuse=any all others that the store lists, and those from before there was a list.

    The store's list has this one from now on.
    """
    own = this_build(compute, device)
    record(store, own)
    if compute.reuse == "same":
        return [own]
    return [own, *(build for build in recorded(store) if build != own), BEFORE_BUILDS]
