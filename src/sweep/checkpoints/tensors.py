"""The tensor files of an unsharded checkpoint, as plain PyTorch state dicts; nothing in them is ever executed.

ai2-olmo's safetensors files (`olmo/safetensors_util.py`) name a tensor by the base64 of a pickled (path, flag) pair and
hold values that aren't tensors as pickled bytes. They are read here by an unpickler that knows plain values alone.
"""

from __future__ import annotations

import base64
import io
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

SAFE_TYPES: list[Any] = [pathlib.PosixPath, np.ndarray, np.dtype, np.dtypes.UInt32DType, np.array(0).__reduce__()[0]]
"""What train.pt holds besides numbers: paths of older checkpoints and numpy's random state (rebuilt by the last)."""

FILES = {"config": ("yaml",), "model": ("safetensors", "pt"), "optim": ("safetensors", "pt"), "train": ("pt",)}
"""The folder's files: name -> endings."""


def has_file(folder: Path, stem: str) -> bool:
    """Whether the checkpoint has this file, with one of its endings."""
    return any((folder / f"{stem}.{ending}").is_file() for ending in FILES[stem])


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused to load {module}.{name}: only plain values are read")


def read_tensors(folder: Path, stem: str) -> dict[Any, Any]:
    """The state dict in `stem`.safetensors or `stem`.pt; FileNotFoundError where there is neither."""
    if (path := folder / f"{stem}.safetensors").is_file():
        return _nested(safetensors.torch.load_file(path))
    return read_pt(folder / f"{stem}.pt")


def read_entry(folder: Path, stem: str, key: str) -> Any:
    """One top-level value of the state dict, without reading the tensors beside it."""
    if not (path := folder / f"{stem}.safetensors").is_file():
        return read_pt(folder / f"{stem}.pt")[key]
    with safetensors.safe_open(path, framework="pt") as file:
        return _nested({name: file.get_tensor(name) for name in file.keys() if _path(name)[0] == key})[key]  # noqa: SIM118


def tensor_readers(folder: Path, stem: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Name -> a function that reads only that tensor, for a flat state dict such as a model's."""
    if not (path := folder / f"{stem}.safetensors").is_file():
        return {name: partial(_same, tensor) for name, tensor in read_pt(folder / f"{stem}.pt").items()}
    file = safetensors.safe_open(path, framework="pt")
    return {_path(key)[-1]: partial(file.get_tensor, key) for key in file.keys()}  # noqa: SIM118 (no mapping)


def read_pt(path: Path) -> dict[Any, Any]:
    """A .pt file's content, with `weights_only`: an untrusted pickle is refused."""
    with torch.serialization.safe_globals(SAFE_TYPES):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def write_tensors(state: dict[Any, Any], path: Path) -> None:
    """Write `state` as a safetensors file that ai2-olmo's own code reads."""
    save_file({_encode(keys, pickled): t for keys, pickled, t in _flat(state, ())}, path)


def save_file(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions of its folder; the library lets only the writer read it."""
    safetensors.torch.save_file(tensors, path, metadata)
    path.chmod(path.parent.stat().st_mode & 0o666)


def _nested(tensors: dict[str, torch.Tensor]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for name, tensor in tensors.items():
        keys, pickled = _path(name), "." not in name and _decode(name)[1]
        place = result
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = _plain(tensor.numpy().tobytes()) if pickled else tensor
    return result


def _path(name: str) -> tuple[Any, ...]:
    """The keys that a tensor's name stands for. A name with a dot is plain, because base64 has no dots."""
    return (name,) if "." in name else _decode(name)[0]


def _flat(state: dict[Any, Any], above: tuple[Any, ...]) -> Any:
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            yield (*above, key), False, value.detach().contiguous()
        elif isinstance(value, dict):
            yield from _flat(value, (*above, key))
        else:
            pickled = bytearray(pickle.dumps(value, protocol=4))
            yield (*above, key), True, torch.frombuffer(pickled, dtype=torch.uint8)


def _encode(keys: tuple[Any, ...], pickled: bool) -> str:
    return base64.urlsafe_b64encode(pickle.dumps((keys, pickled), protocol=4)).decode("ascii")


def _decode(name: str) -> tuple[tuple[Any, ...], bool]:
    return _plain(base64.urlsafe_b64decode(name))


def _plain(data: bytes) -> Any:
    return _PlainUnpickler(io.BytesIO(data)).load()
