"""Memory that operations write into, batch after batch: fresh memory costs a page fault for every 4 KiB."""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


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
