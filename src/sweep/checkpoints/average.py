"""The weighted average of checkpoints' weights, one tensor at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from sweep.checkpoints.examine import check_finite
from sweep.checkpoints.tensors import tensor_readers, write_tensors

CARRIED = ("config.yaml", "train.pt")
"""Files that the average takes from its last checkpoint: the architecture and the position."""


def average_folders(
    folders: Sequence[Path],
    coefficients: np.ndarray,
    into: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write into `into` a checkpoint without optimizer: each tensor is the weighted sum of the folders'.

    Sums are in float64 and saved in fp32; beside the result, memory holds one tensor of one folder. `progress` gets the
    fraction done. Raises ValueError if two folders do not have the same tensors, or one isn't finite.
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
            check_finite(folder, name, tensor)
            if total.shape not in ((), tensor.shape):
                raise ValueError(f"{folder} has {name} of shape {tuple(tensor.shape)}, not {tuple(total.shape)}")
            total = total + float(coefficient) * tensor.double()
        averaged[name] = total.float()
        progress(done / len(names))
    write_tensors(averaged, into / "model.safetensors")
    for name in CARRIED:
        shutil.copyfile(folders[-1] / name, into / name)
