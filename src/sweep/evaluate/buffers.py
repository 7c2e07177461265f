"""How much is computed at a time, and memory that operations write into, batch after batch.

Fresh memory would cost a page fault for every 4 KiB.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """How much is computed at a time. The last bits of a log-probability depend on it."""

    memory: int
    """Approximate bytes of one thread's batch. `nodes` positions, or a single tree, may take more."""
    nodes: int
    """Nodes that a batch may have whatever they take: with fewer, a wide model's weights are read too often."""
    parts: int
    """Number of batches that a pack is cut into if it is large; threads share them.

    It is not the number of threads, on which no bit may depend.
    """
    fewest: int
    """The fewest nodes of a batch, if the pack has as many: each batch reads the whole head."""
    rows: int
    """Nodes that are computed together between two attentions."""
    head_rows: int
    """Nodes whose logits are computed together."""
    head_columns: int
    """Tokens of the vocabulary whose logits are computed together."""


CPU = BatchSizes(memory=42 * 2**20, nodes=4096, parts=32, fewest=2048, rows=1024, head_rows=1024, head_columns=512)
"""Blocks that stay in a core's cache from one operation to the next."""
GPU = BatchSizes(memory=2 * 2**30, nodes=4096, parts=4, fewest=2**16, rows=16384, head_rows=4096, head_columns=16384)
"""A few large operations, and several batches, so that one is laid out while another is computed."""


class Scratch(threading.local):
    """Named fp32 tensors, separate for each thread. The next `take` of a name overwrites the tensor."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape with undefined content."""
        size = math.prod(shape)
        if name not in self._memory or self._memory[name].numel() < size:
            self._memory[name] = torch.empty(size, device=self._device)
        return self._memory[name][:size].view(shape)
