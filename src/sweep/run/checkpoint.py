"""The checkpoint of a run: a folder of the user's, a published one, or one of an embedded trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sweep.checkpoints import (
    check_followed,
    check_groups,
    has_optimizer,
    identity,
    read_config,
)
from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.run.checkpoint_source import Source
from sweep.run.embedded import embedded
from sweep.run.published import imported_checkpoint, published_checkpoint
from sweep.system.store import Store


def checkpoint(store: Store, config: RunConfig, *, device: torch.device) -> Source:
    """The chosen checkpoint, pretrained on first use where it is an embedded one, downloaded where it is published."""
    if config.model.source == "local":
        folder, chosen = Path(config.checkpoint.path or ""), f"checkpoint.path={config.checkpoint.path}"
        if (folder / "config.yaml").is_file():
            return _opened(folder, chosen, config)
        if config.anneal.needs_optimizer:
            raise _no_optimizer(chosen)
        return _stored(store, imported_checkpoint(store, config), chosen, config)
    if config.model.source == "published":
        return _stored(store, published_checkpoint(store, config), f"checkpoint.step={config.checkpoint.step}", config)
    assert config.checkpoint.step is not None
    return embedded(store, config.model, config.checkpoint.step, compute=config.compute, device=device)


def _stored(store: Store, folder: Path, chosen: str, config: RunConfig) -> Source:
    """A folder of the store, whose digests are known."""
    return _opened(folder, chosen, config, known=store.digests(folder.parent.name, folder.name))


def _opened(folder: Path, chosen: str, config: RunConfig, *, known: Mapping[str, str] | None = None) -> Source:
    """A folder that was not made here; Refusal where it is no checkpoint, or the training can't be gone on with."""
    try:
        found = read_config(folder, optimizer=False)
        check_followed(found)
        if config.anneal.needs_optimizer:
            if not has_optimizer(folder):
                raise _no_optimizer(chosen)
            check_groups(folder, found)
        return Source(key=identity(folder, known=known), folder=folder, config=found)
    except Refusal:
        raise
    except (OSError, ValueError) as error:
        raise Refusal(f"{chosen}: {error}") from error


def _no_optimizer(chosen: str) -> Refusal:
    return Refusal(
        f"{chosen} has no optimizer state, optim.safetensors or .pt, which anneal.optimizer=keep goes on with "
        "(some releases lost it: allenai/OLMo#796, #834): take one that has it, or start a new one with "
        "anneal.optimizer=fresh, anneal.warmup_steps and anneal.peak_lr"
    )
