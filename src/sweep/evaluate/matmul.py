"""Products of many rows with a matrix of weights, by the library that is fastest on this machine.

Measured in fp32 with one thread on an AMD CPU with AVX-512: at width 64 MKL reaches 81 GFLOP/s, up to a fifth more than
otherwise, if the weights lie with outputs, not inputs, side by side. At width 1024 oneDNN reaches 100 and MKL 75. With
AVX2 MKL was faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

NARROW = 128
"""Weights with fewer rows or columns are rearranged in a small copy and multiplied by torch's own library."""


LIBRARIES = ("onednn", "torch")


def library(device: str) -> str:
    """The one of LIBRARIES that multiplies wide matrices on "cpu" or "cuda".

    It decides bits. Torch's version and the instructions that it has chosen decide it, and these are in a score's key.
    """
    fast = device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return "onednn" if fast and _has_onednn() else "torch"


class Matmul:
    """x (M, K) -> x @ weight.T (M, N) for a `weight` (N, K) in fp32."""

    def __init__(self, weight: Tensor) -> None:
        self.width = len(weight)
        """N, the number of outputs."""
        self._weight = weight
        narrow = weight.device.type == "cpu" and min(weight.shape) < NARROW
        self._columns = weight.T.contiguous() if narrow else weight.T
        self._onednn = not narrow and library(weight.device.type) == "onednn"

    def __call__(self, x: Tensor, *, out: Tensor) -> Tensor:
        """The product. `out` is memory that may be used for it."""
        if self._onednn:
            return _onednn_linear(x, self._weight)
        return torch.mm(x, self._columns, out=out)

    def into(self, x: Tensor, *, out: Tensor) -> None:
        """Write the product into `out`."""
        product = self(x, out=out)
        if product is not out:
            out.copy_(product)


def _onednn_linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T by an operator that torch keeps private. For fp32 on an x86 CPU its public ones all take MKL."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def _has_onednn() -> bool:
    """Whether this torch has the private operator with these arguments."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    unit = torch.ones(1, 1)
    try:
        return bool(_onednn_linear(unit, unit) == unit)
    except (RuntimeError, TypeError):
        return False
