"""Examines a checkpoint before anything is computed from it: every tensor is there, of its shape, and finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from olmo.config import ActivationType, ModelConfig, TrainConfig

from sweep.checkpoints.optimizer import MOMENTS, names, saved_groups
from sweep.checkpoints.tensors import FILES, stored
from sweep.models import Architecture, architecture_of, config_json_of

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
MOST_LAYERS = 10_000
"""More than any model has; building one of them would take minutes even without weights."""
SHOWN = 3
"""Tensors that a message names."""
NOWHERE = torch.device("meta")
"""A model there has only shapes."""


def check_sizes(folder: Path, config: TrainConfig, *, named: str = "config.yaml") -> None:
    """Raises ValueError, naming the file that states them and the setting, if no model can have these sizes."""
    sizes, file = config.model, folder / named
    if config_json_of(config) is None and (fault := _size_fault(sizes)):
        raise ValueError(f"{file}: model.{fault}")
    if config.global_train_batch_size < 1:
        raise ValueError(f"{file}: global_train_batch_size={config.global_train_batch_size}: must be at least 1")
    try:
        architecture_of(config).empty(NOWHERE)
    except Exception as error:  # ai2-olmo's own, and assertions without words
        raise ValueError(f"{file}: ai2-olmo makes no model of `model`: {type(error).__name__}: {error}") from error


def _size_fault(sizes: ModelConfig) -> str:
    """The first size that is senseless, as setting=value and why; empty if there is none."""
    for name in ("d_model", "n_heads", "n_layers", "max_sequence_length", "vocab_size", "mlp_ratio"):
        if getattr(sizes, name) < 1:
            return f"{name}={getattr(sizes, name)}: must be at least 1"
    width, heads, rows = sizes.d_model, sizes.n_heads, sizes.embedding_size or sizes.vocab_size
    groups, hidden = sizes.n_kv_heads, sizes.mlp_hidden_size
    swiglu = sizes.activation_type == ActivationType.swiglu
    rules = {
        f"n_layers={sizes.n_layers}: must be at most {MOST_LAYERS}": sizes.n_layers > MOST_LAYERS,
        f"n_heads={heads}: d_model={width} can't be divided by it": bool(width % heads),
        f"n_kv_heads={groups}: n_heads={heads} can't be divided by it": bool(groups and (groups < 1 or heads % groups)),
        f"embedding_size={rows}: must be at least vocab_size={sizes.vocab_size}": rows < sizes.vocab_size,
        f"mlp_hidden_size={hidden}: must be even and positive": hidden is not None
        and (hidden < 1 or (swiglu and bool(hidden % 2))),
        f"eos_token_id={sizes.eos_token_id}: must be below vocab_size={sizes.vocab_size}": not 0
        <= sizes.eos_token_id
        < rows,
    }
    return next((fault for fault, found in rules.items() if found), "")


def _shapes(architecture: Architecture) -> dict[str, torch.Size]:
    """Name -> shape of every tensor of a model."""
    return {name: tensor.shape for name, tensor in architecture.weights(architecture.empty(NOWHERE)).items()}


def examine(folder: Path, config: TrainConfig, *, optimizer: bool) -> dict[str, int]:
    """File -> number of tensors in it. Raises ValueError, naming file and tensor, at the first that is not sound.

    One tensor at a time is read. The optimizer's are read if `optimizer`.
    """
    found = {_file(folder, "model"): _examine_weights(folder, config)}
    if optimizer:
        found[_file(folder, "optim")] = _examine_moments(folder, config)
    return found


def _examine_weights(folder: Path, config: TrainConfig) -> int:
    weights: dict[str, torch.Tensor] = {}
    place = folder / _file(folder, "model")
    for keys, read in stored(folder, "model"):
        name, tensor = str(keys[-1]), read()
        check_finite(place, name, tensor)
        weights[name] = torch.empty(tensor.shape, device="meta")
    architecture = architecture_of(config)
    named = architecture.compatible(architecture.empty(NOWHERE), weights)
    check_shapes(place, {name: tensor.shape for name, tensor in named.items()}, _shapes(architecture))
    return len(weights)


def _examine_moments(folder: Path, config: TrainConfig) -> int:
    """Checks step and both moments of every parameter."""
    place = folder / _file(folder, "optim")
    shapes = _shapes(architecture_of(config))
    groups = saved_groups(folder)
    known = {ident: name for group in groups for name, ident in zip(names(group), group["params"], strict=True)}
    required = {f"{name}.{moment}": shape for name, shape in shapes.items() for moment in MOMENTS[1:]}
    moments: dict[str, torch.Size] = {}
    steps: set[str] = set()
    for keys, read in stored(folder, "optim"):
        if keys[0] != "state":
            continue
        name, moment, value = known.get(keys[1], str(keys[1])), str(keys[-1]), read()
        if moment == "step":
            _check_step(place, name, value)
            steps.add(name)
            continue
        if moment not in MOMENTS:
            continue  # what other versions of Adam keep beside; ours doesn't read it
        check_finite(place, f"{name}.{moment}", value)
        if moment == "exp_avg_sq" and value.numel() and value.min() < 0:
            raise ValueError(f"{place}: {name}.{moment} has negative numbers, which an average of squares can't have")
        moments[f"{name}.{moment}"] = value.shape
    check_shapes(place, moments, required)
    if without := sorted(shapes.keys() - steps):
        raise ValueError(f"{place} has no step of {without[0]}")
    return len(moments)


def check_finite(file: Path, name: str, value: Any) -> None:
    """Raises ValueError, naming file and tensor, if a value is no tensor of finite floating-point numbers."""
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{file}: {name} is a {type(value).__name__}, and no tensor")
    if value.dtype not in DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(f"{file}: {name} holds {str(value.dtype).removeprefix('torch.')}; allowed: {allowed}")
    if value.numel() and not torch.isfinite(torch.stack(torch.aminmax(value))).all():
        wrong = int((~torch.isfinite(value)).sum())
        raise ValueError(f"{file}: {name} has {wrong:,} of {value.numel():,} numbers that are NaN or infinite")


def check_shapes(file: Path, found: Mapping[str, torch.Size], required: Mapping[str, torch.Size]) -> None:
    """Raises ValueError, naming file and tensors, unless the file has exactly the required tensors."""
    lists = {
        "has no": sorted(required.keys() - found.keys()),
        "has tensors that its config.yaml has no place for:": sorted(found.keys() - required.keys()),
    }
    for words, which in lists.items():
        if which:
            raise ValueError(f"{file} {words} {', '.join(which[:SHOWN])}{_more(which)}")
    if other := [name for name, shape in required.items() if found[name] != shape]:
        name = other[0]
        raise ValueError(
            f"{file}: {name} has the shape {tuple(found[name])}, and by its config.yaml it must be "
            f"{tuple(required[name])}{_more(other, 1)}"
        )


def _more(which: list[str], shown: int = SHOWN) -> str:
    return f" and {len(which) - shown:,} more" if len(which) > shown else ""


def _check_step(file: Path, name: str, value: Any) -> None:
    number = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    if not isinstance(number, int | float) or not 0 <= number < float("inf"):
        raise ValueError(f"{file}: {name}.step is no number of steps")


def _file(folder: Path, stem: str) -> str:
    """The name of the file that is read for `stem`."""
    return next(name for ending in FILES[stem] if (folder / (name := f"{stem}.{ending}")).is_file())
