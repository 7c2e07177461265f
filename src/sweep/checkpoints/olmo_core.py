"""Reads a step folder of OLMo-core (`.metadata`, `.distcp`, train/rank0.pt, config.json); nothing in it can run code.

Names of parameters are those of OLMo-core 2 and later: older spellings are translated while they are read.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
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
TRAIN_KEYS = ("global_step", "epoch", "data_loader")
PLACE_KEYS = ("seed", "epoch", "tokens_processed")


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
    try:
        with file.open("rb") as stream:
            found = _MetadataUnpickler(stream).load()
    except FileNotFoundError:
        raise Unreadable(f"{file} is not there; a copy without hidden files loses it") from None
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise Unreadable(f"{file} can't be read: {error}") from None
    if not isinstance(found, metadata.Metadata) or not isinstance(found.storage_data, dict):
        raise Unreadable(f"{file} is no metadata of a checkpoint")
    return found


def read_values(folder: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, Any]:
    """Key -> tensor or plain value of those keys that are `wanted`, shards put together; a missing part is refused."""
    described = read_metadata(folder)
    keys = {key: each for key, each in described.state_dict_metadata.items() if wanted(key)}
    places = [(index, place) for index, place in described.storage_data.items() if index.fqn in keys]
    values: dict[str, Any] = {}
    filled = dict.fromkeys(keys, 0)
    for index, place in places:
        part = _part(folder, place)
        entry = keys[index.fqn]
        if isinstance(entry, metadata.BytesStorageMetadata):
            values[index.fqn], filled[index.fqn] = part, 1
            continue
        if index.fqn not in values:
            values[index.fqn] = _room(folder, index.fqn, entry, places)
        _put(values[index.fqn], part, index)
        filled[index.fqn] += part.numel()
    for key, entry in keys.items():
        whole = 1 if isinstance(entry, metadata.BytesStorageMetadata) else entry.size.numel()
        if filled[key] != whole:
            raise Unreadable(f"{folder}: {key}: {filled[key]} of {whole} numbers are in the files")
    return {_today(key): value for key, value in values.items()}


def _part(folder: Path, place: Any) -> Any:
    """One stream of a `.distcp` file."""
    name = place.relative_path
    if not isinstance(name, str) or Path(name).name != name:
        raise Unreadable(f"{folder}: .metadata names a file outside of its folder")
    file = folder / "model_and_optim" / name
    try:
        with file.open("rb") as stream:
            stream.seek(place.offset)
            data = stream.read(place.length)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Unreadable(f"{file} is not there") from None
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise Unreadable(f"{file} can't be read at byte {place.offset}: {str(error).splitlines()[0]}") from None


def _room(folder: Path, key: str, entry: Any, places: list[Any]) -> torch.Tensor:
    """An empty tensor for the parts; no larger than the files that are said to hold them."""
    size = entry.size.numel() * entry.properties.dtype.itemsize
    files = {place.relative_path for index, place in places if index.fqn == key}
    if size > sum((folder / "model_and_optim" / file).stat().st_size for file in files):
        raise Unreadable(f"{folder}: {key}: {tuple(entry.size)} is larger than its files")
    return torch.empty(entry.size, dtype=entry.properties.dtype)


def _put(whole: torch.Tensor, part: Any, index: metadata.MetadataIndex) -> None:
    offset = index.offset or (0,) * whole.dim()
    fits = isinstance(part, torch.Tensor) and part.dim() == whole.dim() and part.dtype == whole.dtype
    if not fits or any(o < 0 or o + n > all_ for o, n, all_ in zip(offset, part.shape, whole.shape, strict=True)):
        raise Unreadable(f"{index.fqn}: a part doesn't fit its place")
    whole[tuple(slice(o, o + n) for o, n in zip(offset, part.shape, strict=True))] = part


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
    try:
        with torch.serialization.safe_globals([np.ndarray, np.dtype, type(np.dtype(np.uint32)), *names]):
            state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Unreadable(f"{file} is not there") from None
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise Unreadable(f"{file} can't be read without running code in it: {str(error).splitlines()[0]}") from None
    if not isinstance(state, dict):
        raise Unreadable(f"{file} is no state of a trainer")
    missing = [key for key in TRAIN_KEYS if key not in state]
    missing = missing or [f"data_loader.{key}" for key in PLACE_KEYS if key not in state["data_loader"]]
    if missing:
        raise Unreadable(f"{file} has no {missing[0]}")
    return state


def read_config(folder: Path) -> dict[str, Any]:
    """config.json; Unreadable if it asks for a thing that is not supported, by its name."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise Unreadable(f"{file} is not there") from None
    except ValueError as error:
        raise Unreadable(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("model", "dataset")):
        raise Unreadable(f"{file} is no configuration of OLMo-core: it has no model or no dataset")
    if fault := _unsupported(config):
        raise Unreadable(f"{file}: {fault} is not supported")
    return config


def _unsupported(config: dict[str, Any]) -> str:
    """The first choice of a configuration that is not supported, as dotted key and value; empty if there is none."""
    model, data = config["model"], config["dataset"]
    block = model.get("block", {})
    module = config.get("train_module", {})
    kind = str(data.get("type") or data.get("name") or data.get("_CLASS_", ""))
    refused = (
        ("model.block.feed_forward_moe", block.get("feed_forward_moe")),
        ("model.block_overrides", model.get("block_overrides")),
        ("dataset.generate_doc_lengths (document masking)", data.get("generate_doc_lengths")),
        ("dataset.label_mask_paths", data.get("label_mask_paths")),
        ("dataset.source_mixture_config", data.get("source_mixture_config")),
        ("train_module.float8_config", (module.get("float8_config") or {}).get("enabled")),
    )
    for key, value in refused:
        if value:
            return key
    if block.get("name", "reordered_norm") != "reordered_norm":
        return f"model.block.name={block['name']}"
    return "" if "fsl" in kind.lower() or not kind else f"dataset={kind}"
