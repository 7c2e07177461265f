"""The checkpoint of a run: a folder of the user's, a published one, or one of an embedded trajectory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from olmo.config import TrainConfig

from sweep.checkpoints import (
    check_followed,
    check_groups,
    check_sizes,
    examine,
    has_optimizer,
    identity,
    is_step_folder,
    named_files,
    read_config,
    read_position,
    weights_key,
)
from sweep.config import Compute
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.domain.redaction import holds_secret, redact
from sweep.run.checkpoint_folder import CheckpointChoice, CheckpointFolder
from sweep.run.embedded import embedded_checkpoint
from sweep.run.olmo_core import olmo_core_checkpoint
from sweep.run.published import hub_checkpoint, imported_checkpoint, published_checkpoint
from sweep.system.files import file_digest
from sweep.system.store import Store

EXAMINED = 1
"""To be raised if `examine` looks for more."""


def open_checkpoint(
    store: Store, choice: CheckpointChoice, *, compute: Compute, device: torch.device
) -> CheckpointFolder:
    """The chosen checkpoint: pretrained on first use if it is embedded, downloaded if it is published.

    Refusal if it isn't a checkpoint that the anneal can go on from.
    """
    if choice.model.source == "embedded":
        assert choice.checkpoint.step is not None
        return embedded_checkpoint(store, choice.model, choice.checkpoint.step, compute=compute, device=device)
    if choice.model.source == "published":
        return _from_store(store, published_checkpoint(store, choice), choice)
    if choice.model.source == "hub":
        return _from_store(store, hub_checkpoint(store, choice), choice)
    folder = Path(choice.checkpoint.path or "")
    if (folder / "config.yaml").is_file():
        return _checked(store, folder, choice)
    if is_step_folder(folder):
        return _from_store(store, olmo_core_checkpoint(store, choice), choice)
    if choice.needs_optimizer:
        raise _no_optimizer(choice)
    return _from_store(store, imported_checkpoint(store, choice), choice)


def _from_store(store: Store, folder: Path, choice: CheckpointChoice) -> CheckpointFolder:
    """A folder of the store, whose files' digests are known already."""
    return _checked(store, folder, choice, digests=store.digests(folder.parent.name, folder.name))


def _checked(
    store: Store, folder: Path, choice: CheckpointChoice, *, digests: Mapping[str, str] | None = None
) -> CheckpointFolder:
    """A folder that was not made here; Refusal if it is no sound checkpoint, or its training can't be continued."""
    try:
        config = read_config(folder, optimizer=False)
        _check_no_secret(folder / "config.yaml")
        check_sizes(folder, config)
        check_followed(config)
        if choice.needs_optimizer:
            if not has_optimizer(folder):
                raise _no_optimizer(choice)
            check_groups(folder, config)
        read_position(folder, config)
        digests = digests or {name: file_digest(folder / name) for name in named_files(folder)}
        key, weights = identity(folder, known=digests), weights_key(folder, known=digests)
        examined_once(store, folder, config, key=key, optimizer=choice.needs_optimizer)
        return CheckpointFolder(key=key, folder=folder, config=config, weights=weights)
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        raise Refusal(f"{choice.key_and_value}: {error}") from error


def _check_no_secret(file: Path) -> None:
    """ValueError if the configuration, which is copied into every state, holds an address with a password or token."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if holds_secret(line):
            raise ValueError(
                f"{file}, line {number}: {redact(line.strip())} holds a password or token, and it would be copied into "
                "every state: take it out, and give data.root or ~/.netrc"
            )


def examined_once(store: Store, folder: Path, config: TrainConfig, *, key: str, optimizer: bool) -> None:
    """Examines every tensor of a folder, unless the store says that this was done; `key` names its content.

    Raises ValueError as `examine` does.
    """

    def build(into: Path) -> None:
        tensors = examine(folder, config, optimizer=optimizer)
        (into / "examined.json").write_text(json.dumps({"tensors": tensors}) + "\n")

    store.make("examined", digest("examined", EXAMINED, key, optimizer), build)


def _no_optimizer(choice: CheckpointChoice) -> Refusal:
    return Refusal(
        f"{choice.key_and_value} has no optimizer state, optim.safetensors or .pt, which anneal.optimizer=keep goes on "
        "with (some releases lost it: allenai/OLMo#796, #834): take one that has it, or start a new one with "
        "anneal.optimizer=fresh, anneal.warmup_steps and anneal.peak_lr"
    )
