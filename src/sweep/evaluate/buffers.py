"""How much is computed at a time, and the memory that operations write into, batch after batch.

Fresh memory costs a page fault for every 4 KiB.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is computed at a time; the bits of a log-probability depend on it."""

    memory: int
    """Bytes that one thread's batch may take, about, unless `nodes` of them, or a single tree, take more."""
    nodes: int
    """Nodes that a batch may have whatever they take: with fewer, a wide model's weights are read too often."""
    parts: int
    """Batches wanted of a pack: threads share them. Not the number of threads, on which no bit may depend."""
    fewest: int
    """Nodes of a batch all the same, where a pack has them: each batch reads the whole head."""
    rows: int
    """Nodes at a time between two attentions."""
    head_rows: int
    head_columns: int
    """Logits at a time."""


CPU = Sizes(memory=42 * 2**20, nodes=4096, parts=32, fewest=2048, rows=1024, head_rows=1024, head_columns=512)
"""Blocks stay in a core's cache from one operation to the next."""
GPU = Sizes(memory=2 * 2**30, nodes=4096, parts=4, fewest=2**16, rows=16384, head_rows=4096, head_columns=16384)
"""Few, large operations; some batches, of which one is laid out while another is computed."""


class Scratch(threading.local):
    """Tensors in fp32 by name, each thread's its own; one taken is overwritten when its name is next taken."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape that holds anything."""
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = torch.empty(size, device=self._device)
        return self._memory[name][:size].view(shape)
