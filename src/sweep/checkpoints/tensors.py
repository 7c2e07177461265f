"""The tensor files of an unsharded checkpoint, as plain PyTorch state dicts; nothing in them is ever executed.

ai2-olmo's safetensors files (`olmo/safetensors_util.py`) name a tensor by the base64 of a pickled (path, flag) pair and
hold values that aren't tensors as pickled bytes. They are read here by an unpickler that knows plain values alone.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
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


class Unreadable(ValueError):
    """A tensor file is cut, damaged, or not what its name says; the message is one line and begins with its path."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused to load {module}.{name}: only plain values are read")


def read_tensors(folder: Path, stem: str) -> dict[Any, Any]:
    """The state dict in `stem`.safetensors or `stem`.pt; FileNotFoundError if there is neither, or Unreadable."""
    if (path := folder / f"{stem}.safetensors").is_file():
        with reading(path):
            return _nested(safetensors.torch.load_file(path))
    return read_pt(folder / f"{stem}.pt")


def read_entry(folder: Path, stem: str, key: str) -> Any:
    """One top-level value of the state dict, without reading the tensors beside it; Unreadable if there is none."""
    path, state = folder / f"{stem}.safetensors", {}
    if not path.is_file():
        path = folder / f"{stem}.pt"
        state = read_pt(path)
    else:
        with reading(path), safetensors.safe_open(path, framework="pt") as file:
            state = _nested({name: file.get_tensor(name) for name in file.keys() if _path(name)[0] == key})  # noqa: SIM118
    if key not in state:
        raise Unreadable(f"{path} has no {key}")
    return state[key]


def stored(folder: Path, stem: str) -> Iterator[tuple[tuple[Any, ...], Callable[[], Any]]]:
    """The keys of each value of a state dict, and a function that reads it alone; raises Unreadable."""
    if not (path := folder / f"{stem}.safetensors").is_file():
        for keys, value in _values(read_pt(folder / f"{stem}.pt"), ()):
            yield keys, partial(_same, value)
        return
    with reading(path), safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            keys, pickled = _path(name), "." not in name and _decode(name)[1]
            yield keys, partial(_value, partial(file.get_tensor, name), pickled=pickled)


def _value(read: Callable[[], torch.Tensor], *, pickled: bool) -> Any:
    return _plain(read().numpy().tobytes()) if pickled else read()


def _values(state: dict[Any, Any], above: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a broken tensor file provokes within the block is raised as Unreadable; errors of the disk are not."""
    try:
        yield
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # the content decides what is raised: pickle's, zip's, torch's or Python's own errors
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place outside a cut file is an EINVAL
            raise
        if not path.stat().st_size:
            raise Unreadable(f"{path} is empty") from error
        words = " ".join(str(error).split("WeightsUnpickler error:")[-1].split())[:160]
        code = any(sign in str(error) for sign in ("Unsupported global", "Unsupported class", "refused to load"))
        fault = "holds a pickle with code, which is never executed" if code else "is cut, damaged or no tensor file"
        raise Unreadable(f"{path} {fault} ({type(error).__name__}: {words})") from error


def tensor_readers(folder: Path, stem: str) -> dict[str, Callable[[], torch.Tensor]]:
    """Name -> a function that reads only that tensor, for a flat state dict such as a model's."""
    if not (path := folder / f"{stem}.safetensors").is_file():
        return {name: partial(_same, tensor) for name, tensor in read_pt(folder / f"{stem}.pt").items()}
    with reading(path):
        file = safetensors.safe_open(path, framework="pt")
        return {_path(key)[-1]: partial(file.get_tensor, key) for key in file.keys()}  # noqa: SIM118 (no mapping)


def read_pt(path: Path) -> dict[Any, Any]:
    """The state dict of a .pt file, read with `weights_only`; Unreadable if it is broken or a pickle with code."""
    with reading(path), torch.serialization.safe_globals(SAFE_TYPES), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols; what can't be read raises
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if not isinstance(content, dict):
        raise Unreadable(f"{path} holds a {type(content).__name__}, and no state dict")
    return content


def _same(value: Any) -> Any:
    return value


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
