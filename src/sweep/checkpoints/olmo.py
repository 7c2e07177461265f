"""Reads and writes ai2-olmo's unsharded checkpoint folder: model, optimizer and position.

A folder holds `config.yaml`, `model`, `optim` (.safetensors or .pt) and `train.pt`, as ai2-olmo 0.6.0 writes and reads
them. A training state in the store is such a folder, so an annealed model is a checkpoint like any other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from olmo.config import TrainConfig
from omegaconf import OmegaConf

from sweep.checkpoints.olmo_core_config import OlmoCoreTraining
from sweep.checkpoints.optimizer import (
    adamw,
    has_optimizer,
    named_state,
    restore_moments,
    restore_settings,
    saved_groups,
)
from sweep.checkpoints.settings import check_clipping
from sweep.checkpoints.tensors import FILES, has_file, read_pt, read_tensors, write_tensors
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.records import Position
from sweep.models import architecture_of, kind_of_training
from sweep.system.files import file_digest

COUNTS = (
    "global_step",
    "global_data_step",
    "epoch",
    "global_train_examples_seen",
    "global_train_examples_seen_this_epoch",
    "global_train_tokens_seen",
)
"""What train.pt says of the position."""


@dataclass
class TrainingState:
    """A training in progress. It changes in place with every update."""

    model: Any
    """ai2-olmo's `OLMo`, or a causal language model of transformers."""
    optimizer: torch.optim.AdamW
    position: Position
    config: TrainConfig
    """The training's own configuration, in ai2-olmo's names."""


def read_config(folder: Path, *, optimizer: bool = True) -> TrainConfig:
    """The training configuration of a checkpoint; FileNotFoundError names a missing file, ValueError a broken one.

    With `optimizer=False` the optimizer's file may be missing: some releases have lost it (allenai/OLMo#796).
    """
    for stem, endings in FILES.items():
        if (optimizer or stem != "optim") and not has_file(folder, stem):
            raise FileNotFoundError(
                f"{folder} is not an OLMo unsharded checkpoint: {stem}.{' or .'.join(endings)} is missing"
            )
    path = folder / "config.yaml"
    try:
        return _kind(path).load(path, validate_paths=False)
    except Exception as error:  # ai2-olmo's, OmegaConf's, YAML's and Python's own: whatever the text provokes
        raise ValueError(f"{path} is not a training configuration of ai2-olmo: {error}") from error


def _kind(path: Path) -> type[TrainConfig]:
    """The class of a configuration: that of a training of OLMo-core where it holds what ai2-olmo has no place for."""
    of_olmo_core = any(line.startswith("olmo_core:") for line in path.read_text().splitlines())
    return OlmoCoreTraining if of_olmo_core else kind_of_training(path)


def read_position(folder: Path, config: TrainConfig) -> Position:
    """The position that the checkpoint states; no weights are read. Raises Refusal if it states no step.

    Older releases of ai2-olmo counted otherwise; they are read as `Trainer.load_trainer_state_dict` reads them. The
    learning rate of a checkpoint without optimizer is 0.
    """
    train = {name: value for name, value in read_pt(folder / "train.pt").items() if value is not None}
    if "global_step" not in train:
        raise Refusal(f"{folder / 'train.pt'} has no global_step: where the checkpoint stands is not known")
    for name in COUNTS:
        count = train.get(name, 0)
        if not isinstance(count, int) or count < 0:
            raise Refusal(f"{folder / 'train.pt'}: {name}={count}: must be a whole number from 0")
    batch_size, sequence_length = config.global_train_batch_size, config.model.max_sequence_length
    batches = train.get("global_data_step", train["global_step"])
    instances = train.get("global_train_examples_seen", batches * batch_size)
    position = Position(
        step=train["global_step"],
        epoch=train.get("epoch", 0),
        instances=train.get("global_train_examples_seen_this_epoch", instances),
        tokens=train.get("global_train_tokens_seen", instances * sequence_length),
        lr=float(saved_groups(folder)[0]["lr"]) if has_optimizer(folder) else 0.0,
        batch_size=batch_size,
        sequence_length=sequence_length,
        data_seed=config.seed if config.data.seed is None else config.data.seed,
        max_grad_norm=config.max_grad_norm,
    )
    check_clipping(config, position)
    return position


def load_model(folder: Path, config: TrainConfig, *, device: torch.device) -> Any:
    """The model with the checkpoint's weights on `device`; on "meta" it has only shapes, and nothing is read."""
    architecture = architecture_of(config)
    if device.type == "meta":
        return architecture.empty(device)
    model = architecture.empty(torch.device("cpu"))
    architecture.load(model, architecture.compatible(model, read_tensors(folder, "model")))
    return model.to(device)


def load_state(folder: Path, config: TrainConfig, *, device: torch.device, moments: bool = True) -> TrainingState:
    """The training as the checkpoint left it, on `device`: weights, and Adam's settings and moments.

    Without `moments` Adam starts anew with moments and step count of zero; its settings are still the checkpoint's, or
    those of config.yaml if the checkpoint has no optimizer. On the device "meta" no tensors are read.
    """
    model = load_model(folder, config, device=device)
    optimizer = adamw(model, config)
    if moments and device.type != "meta":
        saved = read_tensors(folder, "optim")
        restore_settings(optimizer.param_groups, saved["param_groups"])
        restore_moments(optimizer, saved)
    elif has_optimizer(folder):
        restore_settings(optimizer.param_groups, saved_groups(folder))
    return TrainingState(model, optimizer, read_position(folder, config), config)


def fresh_state(config: TrainConfig, *, device: torch.device) -> TrainingState:
    """A training before its first update, its weights drawn from `config.seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = architecture_of(config).drawn().to(device)
    return TrainingState(model, adamw(model, config), fresh_position(config), config)


def fresh_position(config: TrainConfig) -> Position:
    """The position of a training before its first update."""
    return Position(
        step=0,
        epoch=0,
        instances=0,
        tokens=0,
        lr=0.0,
        batch_size=config.global_train_batch_size,
        sequence_length=config.model.max_sequence_length,
        data_seed=config.seed if config.data.seed is None else config.data.seed,
        max_grad_norm=config.max_grad_norm,
    )


def config_text(config: TrainConfig) -> str:
    """The text of a checkpoint's config.yaml, as ai2-olmo writes it."""
    text = io.StringIO()
    OmegaConf.save(config, text)
    return text.getvalue()


def save_state(folder: Path, state: TrainingState, *, config_yaml: str | None = None) -> None:
    """Write the checkpoint folder's four files; equal states give equal bytes.

    `config_yaml` is the `config_text` of the state's configuration, if it is known already.
    """
    position = state.position
    (folder / "config.yaml").write_text(config_yaml or config_text(state.config), encoding="utf-8")
    write_tensors(architecture_of(state.config).weights(state.model), folder / "model.safetensors")
    write_tensors(named_state(state.optimizer), folder / "optim.safetensors")
    write_position(
        folder, step=position.step, epoch=position.epoch, instances=position.instances, tokens=position.tokens
    )


def write_position(folder: Path, *, step: int, epoch: int, instances: int, tokens: int) -> None:
    """Write the position of a checkpoint as `train.pt`, under ai2-olmo's own keys."""
    train = {
        "epoch": epoch,
        "global_step": step,
        "global_train_examples_seen_this_epoch": instances,
        "global_train_tokens_seen": tokens,
        "world_size": 1,
        "checkpoints": [],
        "unsharded_checkpoints": [],
        "ephemeral_checkpoints": [],
    }
    torch.save(train, folder / "train.pt")


def identity(folder: Path, *, known: Mapping[str, str] | None = None) -> str:
    """Digest of a checkpoint folder's content, by which its anneals are named.

    The files are not read if `known` gives their SHA-256.
    """
    names = named_files(folder)
    return digest("checkpoint", {name: known[name] if known else file_digest(folder / name) for name in names})


def named_files(folder: Path) -> list[str]:
    """The names of a checkpoint's own files."""
    return sorted(f.name for f in folder.iterdir() if f.stem in FILES)


def weights_key(folder: Path, *, known: Mapping[str, str] | None = None) -> str:
    """Digest of a checkpoint's weights, independent of the folder; `known` as for `identity`."""
    name = next(name for ending in FILES["model"] if (folder / (name := f"model.{ending}")).is_file())
    return digest("weights", known[name] if known else file_digest(folder / name))
