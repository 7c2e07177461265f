"""Products of many rows with a matrix of weights, by whichever library is fast at them here.

Measured on an AMD CPU with AVX-512, fp32, one thread: 64 wide, MKL is up to a fifth faster where the weights lie with
outputs, not inputs, side by side: 81 GFLOP/s; 1024 wide, oneDNN makes 100 where MKL makes 75. With AVX2 MKL was faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = 128
"""Weights with fewer rows or columns are multiplied by torch's own, from a copy: a small one."""


def library(device: str) -> str:
    """What multiplies wide matrices on "cpu" or "cuda": it decides bits, and so is part of a score's name."""
    fast = device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "onednn" if fast and _has_onednn() else "torch"


class Product:
    """x (M, K) -> x @ weight.T (M, N) for a `weight` (N, K) in fp32."""

    def __init__(self, weight: Tensor) -> None:
        self.width = len(weight)
        """N."""
        self._weight = weight
        narrow = weight.device.type == "cpu" and min(weight.shape) < NARROW
        self._columns = weight.T.contiguous() if narrow else weight.T
        self._onednn = not narrow and library(weight.device.type) == "onednn"

    def __call__(self, x: Tensor, *, out: Tensor) -> Tensor:
        """The product; `out` is memory for it, which need not be used."""
        if self._onednn:
            return torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")
        return torch.mm(x, self._columns, out=out)

    def into(self, x: Tensor, *, out: Tensor) -> None:
        """Write the product into `out`."""
        found = self(x, out=out)
        if found is not out:
            out.copy_(found)


def _has_onednn() -> bool:
    """Whether torch has the private operator, and with these arguments."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    one = torch.ones(1, 1)
    try:
        return bool(torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "") == one)
    except (RuntimeError, TypeError):
        return False
