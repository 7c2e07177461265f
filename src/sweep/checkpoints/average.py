"""The weighted average of checkpoints' weights, one tensor at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from sweep.checkpoints.tensors import tensor_readers, write_tensors

CARRIED = ("config.yaml", "train.pt")
"""What the average has of its last checkpoint: the architecture, and where it stands."""


def average_folders(
    folders: Sequence[Path],
    coefficients: np.ndarray,
    into: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write `into` as a checkpoint of weights alone: every tensor is the folders' sum, each times its coefficient.

    Sums in float64, kept in fp32; beside the result one tensor of one folder is in memory. `progress` gets the
    fraction done. ValueError where two folders don't have the same tensors.
    """
    members = [tensor_readers(folder, "model") for folder in folders]
    names = list(members[-1])
    for folder, member in zip(folders, members, strict=True):
        if other := sorted(set(names) ^ set(member)):
            raise ValueError(f"{folder} and {folders[-1]} are not of one model: only one of them has {other[0]}")
    averaged: dict[str, torch.Tensor] = {}
    for done, name in enumerate(names, 1):
        total = torch.zeros((), dtype=torch.float64)
        for coefficient, folder, member in zip(coefficients, folders, members, strict=True):
            tensor = member[name]()
            if total.shape not in ((), tensor.shape):
                raise ValueError(f"{folder} has {name} of shape {tuple(tensor.shape)}, not {tuple(total.shape)}")
            total = total + float(coefficient) * tensor.double()
        averaged[name] = total.float()
        progress(done / len(names))
    write_tensors(averaged, into / "model.safetensors")
    for name in CARRIED:
        shutil.copyfile(folders[-1] / name, into / name)
