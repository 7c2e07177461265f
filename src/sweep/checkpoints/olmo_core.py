"""Reads a step folder of OLMo-core (`.metadata`, `.distcp`, train/rank0.pt, config.json); nothing in it can run code.

Names of parameters are those of OLMo-core 2 and later: older spellings are translated while they are read.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.checkpoint import filesystem, metadata

from sweep.checkpoints.tensors import Unreadable

WRITERS_STORAGE_INFO = ("olmo_core.distributed.checkpoint.filesystem", "_StorageInfo")
ALLOWED: dict[str, tuple[str, ...]] = {
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "pathlib": ("PosixPath",),
    "torch.serialization": ("_get_layout",),
    "torch": ("Size", "float32", "float16", "bfloat16", "float64", "int64", "int32"),
}
"""All that a `.metadata` may name. A dotted name is refused: it would reach what a module imports, such as `os`."""
OLD_NAMES = {"norm.weight": "lm_head.norm.weight", "w_out.weight": "lm_head.w_out.weight"}
"""A parameter's name up to 1.6 -> its name since 1.7."""
TRAIN_KEYS = ("global_step", "global_train_tokens_seen")
COUNTS = (*TRAIN_KEYS, "seed", "epoch", "tokens_processed")
PLACE_KEYS = ("seed", "epoch", "tokens_processed")
Place = tuple[metadata.MetadataIndex, Any]
"""Which part of which tensor, and its file, offset and length."""


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == WRITERS_STORAGE_INFO:
            return filesystem._StorageInfo
        if name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")


def read_metadata(folder: Path) -> metadata.Metadata:
    """What `.metadata` says of the tensors and where they are; raises Unreadable if it is damaged or hostile."""
    file = folder / "model_and_optim" / ".metadata"
    with _reading(file, "", absent="is not there; a copy without hidden files loses it"), file.open("rb") as stream:
        found = _MetadataUnpickler(stream).load()
    if not _is_sound(found):
        raise Unreadable(f"{file} is no metadata of a checkpoint")
    if any(Path(place.relative_path).name != place.relative_path for place in found.storage_data.values()):
        raise Unreadable(f"{file} names a file outside of its folder")
    return found


def _is_sound(described: Any) -> bool:
    """Whether all parts of an unpickled `.metadata` have the types that a reader asks for."""
    if not isinstance(described, metadata.Metadata) or not isinstance(described.storage_data, dict):
        return False
    if not isinstance(described.state_dict_metadata, dict):
        return False
    entries = all(isinstance(key, str) and _is_entry(entry) for key, entry in described.state_dict_metadata.items())
    return entries and all(_is_place(index, place) for index, place in described.storage_data.items())


def _is_entry(entry: Any) -> bool:
    if isinstance(entry, metadata.BytesStorageMetadata):
        return True
    tensor = isinstance(entry, metadata.TensorStorageMetadata) and isinstance(entry.size, torch.Size)
    return tensor and isinstance(getattr(entry.properties, "dtype", None), torch.dtype)


def _is_place(index: Any, place: Any) -> bool:
    if not isinstance(index, metadata.MetadataIndex) or not isinstance(place, filesystem._StorageInfo):
        return False
    offset = index.offset is None or all(isinstance(start, int) for start in index.offset)
    whole_numbers = isinstance(place.offset, int) and isinstance(place.length, int)
    return offset and whole_numbers and isinstance(index.fqn, str) and isinstance(place.relative_path, str)


def read_values(folder: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, Any]:
    """Key -> tensor or plain value of those keys that are `wanted`, shards put together; a missing part is refused."""
    described = read_metadata(folder)
    keys = {key: entry for key, entry in described.state_dict_metadata.items() if wanted(key)}
    places: dict[str, list[Place]] = {key: [] for key in keys}
    for index, place in described.storage_data.items():
        if index.fqn in places:
            places[index.fqn].append((index, place))
    return {_today(key): _value(folder, key, entry, places[key]) for key, entry in keys.items()}


def _value(folder: Path, key: str, entry: Any, places: list[Place]) -> Any:
    """The value of one key, put together from its parts; Unreadable if they don't cover it."""
    if isinstance(entry, metadata.BytesStorageMetadata):
        if not places:
            raise Unreadable(f"{folder}: {key} is not in the files")
        return _part(folder, places[0][1])
    whole = _room(folder, key, entry, places)
    covered = torch.zeros(entry.size, dtype=torch.bool)
    for index, place in places:
        part = _part(folder, place)
        where = _where(whole, part, index)
        whole[where], covered[where] = part, True
    if not covered.all():
        raise Unreadable(f"{folder}: {key}: {int(covered.sum())} of {covered.numel()} numbers are in the files")
    return whole


def _part(folder: Path, place: Any) -> Any:
    """One stream of a `.distcp` file."""
    file = folder / "model_and_optim" / place.relative_path
    with _reading(file, f" at byte {place.offset}"):
        with file.open("rb") as stream:
            stream.seek(place.offset)
            data = stream.read(place.length)
        _check_sums(data)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _check_sums(data: bytes) -> None:
    """ValueError if a part of the stream isn't what was written; torch.load doesn't compare the sums in it."""
    if zipfile.is_zipfile(stream := io.BytesIO(data)):
        with zipfile.ZipFile(stream) as parts:
            if damaged := parts.testzip():
                raise ValueError(f"{damaged} in it is damaged")


@contextmanager
def _reading(file: Path, how: str, *, absent: str = "is not there") -> Iterator[None]:
    """Whatever the block raises says that `file` can't be read, and `how`: a damaged pickle raises anything.

    What the machine raises, and not the file, is raised as it is.
    """
    try:
        yield
    except FileNotFoundError:
        raise Unreadable(f"{file} {absent}") from None
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise Unreadable(f"{file} can't be read{how}: {_words(error)}") from None


def _words(error: Exception) -> str:
    """What an error says, in one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def _room(folder: Path, key: str, entry: Any, places: list[Place]) -> torch.Tensor:
    """An empty tensor for the parts; no larger than the files that are said to hold them."""
    size = entry.size.numel() * entry.properties.dtype.itemsize
    files = {folder / "model_and_optim" / place.relative_path for _, place in places}
    if places and size > sum(file.stat().st_size for file in files if file.is_file()):
        if absent := sorted(str(file) for file in files if not file.is_file()):
            raise Unreadable(f"{absent[0]} is not there")
        raise Unreadable(f"{folder}: {key}: {tuple(entry.size)} is larger than its files")
    if not places:
        raise Unreadable(f"{folder}: {key}: 0 of {entry.size.numel()} numbers are in the files")
    return torch.empty(entry.size, dtype=entry.properties.dtype)


def _where(whole: torch.Tensor, part: Any, index: metadata.MetadataIndex) -> tuple[slice, ...]:
    """The place of a part in the whole tensor; Unreadable if it doesn't fit there."""
    offset = tuple(index.offset or (0,) * whole.dim())
    fits = isinstance(part, torch.Tensor) and (part.dim(), part.dtype) == (whole.dim(), whole.dtype)
    fits = fits and len(offset) == whole.dim()
    if not fits or any(o < 0 or o + n > all_ for o, n, all_ in zip(offset, part.shape, whole.shape, strict=True)):
        raise Unreadable(f"{index.fqn}: a part doesn't fit its place")
    return tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))


def _today(key: str) -> str:
    """A key with its parameter's name as OLMo-core spells it since 1.7."""
    for before in ("model.", "optim.state.", "optim.param_groups."):
        for old, new in OLD_NAMES.items():
            if key == before + old or key.startswith(f"{before}{old}."):
                return before + new + key[len(before + old) :]
    return key


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Parameter -> its weights; no moment is read."""
    prefix = "model."
    return {
        key.removeprefix(prefix): value for key, value in read_values(folder, lambda k: k.startswith(prefix)).items()
    }


def read_groups(folder: Path) -> dict[str, dict[str, Any]]:
    """Parameter -> the optimizer's settings of it (lr, initial_lr, betas, eps, weight_decay); both layouts are read."""
    prefix = "optim.param_groups."
    found = {k.removeprefix(prefix): v for k, v in read_values(folder, lambda k: k.startswith(prefix)).items()}
    settings: dict[str, dict[str, Any]] = {}
    for key, value in found.items():
        of, _, name = key.rpartition(".")
        settings.setdefault(of, {})[name] = value.item() if isinstance(value, torch.Tensor) else value
    if "0.params" not in found:
        return settings
    by_name: dict[str, dict[str, Any]] = {}
    for group in settings.values():
        names = group.pop("params")
        by_name |= {OLD_NAMES.get(name, name): dict(group) for name in names}
    return by_name


def read_train_state(folder: Path) -> dict[str, Any]:
    """The trainer's state of rank 0, read without running code; Unreadable if it lacks what an anneal needs."""
    file = folder / "train" / "rank0.pt"
    rebuild = np.ndarray(0).__reduce__()[0]  # numpy's own function, under the name that either version writes
    names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("_core", "core")]
    safe: list[Any] = [np.ndarray, np.dtype, type(np.dtype(np.uint32)), *names]
    with _reading(file, " without running code in it"), torch.serialization.safe_globals(safe):
        state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise Unreadable(f"{file} is no state of a trainer")
    state = {**state, "data_loader": _place_in_data(state)}
    for key, value in {**state, **state["data_loader"]}.items():
        if key in COUNTS and (not isinstance(value, int) or value < 0):
            raise Unreadable(f"{file}: {key}={value}: must be a whole number from 0")
    missing = [key for key in TRAIN_KEYS if key not in state]
    missing = missing or [f"data_loader.{key}" for key in PLACE_KEYS if key not in state["data_loader"]]
    if missing:
        raise Unreadable(f"{file} has no {missing[0]}")
    return state


def _place_in_data(state: Mapping[str, Any]) -> dict[str, Any]:
    """Where the loader is, under today's keys; releases before 1.1 called it otherwise, as OLMo-core converts it."""
    loader = state.get("data_loader", state.get("dataset"))
    if loader is None:
        named = {"seed": "data_seed", "tokens_processed": "global_train_tokens_seen_this_epoch"}
        loader = {key: state[old] for key, old in named.items() if old in state}
    if not isinstance(loader, dict):
        return {}
    return {**({"epoch": state["epoch"]} if "epoch" in state else {}), **loader}
