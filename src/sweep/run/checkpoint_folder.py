"""Which checkpoint a run starts from, and the folder that holds it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from olmo.config import TrainConfig

from sweep.checkpoints import read_config, shipped_tokenizer
from sweep.config import Checkpoint, Model
from sweep.domain.errors import Refusal
from sweep.system.ranks import Ranks
from sweep.system.store import Store

MAIN = "main"
"""The revision of a repository on the Hub where none is named."""
STORED = re.compile(r"store://(\w+)/(\w+)/(\w[\w.-]*)")
"""A file of the store; no part of it leaves the store's folder."""


@dataclass(frozen=True, kw_only=True)
class CheckpointChoice:
    """What a person chose that decides which checkpoint it is, and what the run needs of it."""

    model: Model
    checkpoint: Checkpoint
    needs_optimizer: bool
    """Whether the anneal goes on with the checkpoint's optimizer state."""
    dtype: str | None
    """Data type of the user's token files (`data.dtype`); None: as the checkpoint's own configuration says."""

    @property
    def key_and_value(self) -> str:
        """The choice as a refusal names it."""
        if self.model.source == "local":
            return f"checkpoint.path={self.checkpoint.path}"
        if self.model.source == "hub":
            return f"checkpoint.repo={self.checkpoint.repo}, checkpoint.revision={self.checkpoint.revision or MAIN}"
        return f"checkpoint.step={self.checkpoint.step}"


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """A checkpoint on disk, in ai2-olmo's unsharded format."""

    key: str
    """Digest that names its weights, optimizer state and position."""
    folder: Path
    config: TrainConfig
    """The configuration of the training that made it."""
    weights: str | None = None
    """Digest of its weights, where it is known already."""


def stored_digests(store: Store, folder: Path) -> dict[str, str] | None:
    """File -> SHA-256 of a folder of the store; None for a folder elsewhere."""
    kind, key = folder.parent.name, folder.name
    return store.digests(kind, key) if store.path(kind, key) == folder else None


def of_first_rank(ranks: Ranks, make: Callable[[], CheckpointFolder]) -> CheckpointFolder:
    """The checkpoint that the first rank makes; the others are told its place, and read its configuration there."""
    made: list[CheckpointFolder] = []

    def place() -> list[str]:
        made.append(make())
        return [made[0].key, str(made[0].folder.absolute())]

    key, folder = ranks.from_first(place)
    if made:
        return made[0]
    return CheckpointFolder(key=key, folder=Path(folder), config=read_config(Path(folder), optimizer=False))


def resolve(store: Store, path: str) -> Path:
    """The file that a checkpoint's configuration names: in the store, on disk, or one of ai2-olmo's own tokenizers.

    Refusal if it names an entry that the store doesn't have, or something outside of its entries.
    """
    if path.startswith("store://"):
        if (parts := STORED.fullmatch(path)) is None:
            raise Refusal(f"{path}: a file of the store is store://KIND/KEY/NAME, of plain words")
        kind, key, name = parts.groups()
        folder = store.get(kind, key)
        if folder is None:
            raise Refusal(f"{path} is not in the store {store.root}")
        return folder / name
    file = Path(path)
    return file if file.is_file() else shipped_tokenizer(path) or file
