"""The states of one training in the store: which one it goes on from, which are kept, and which may go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from sweep.domain.records import StepRecord
from sweep.system.store import Store

KEPT, INTERIM = "states", "interim"
"""Kinds of the store: states that somebody wants to keep, and states that are dropped when nobody needs them."""
STEPS = "steps.jsonl"


class States:
    """The states of one training, for the rank that writes.

    The one that the training would go on from is claimed, so that no other run that shares it drops it meanwhile.
    """

    def __init__(self, store: Store, keys: list[str]) -> None:
        self.store = store
        self.keys = keys
        """The key of the state after each number of updates, 0 included."""
        self._claimed: str | None = None

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """The training is within the block; afterwards nothing is claimed for it."""
        try:
            yield
        finally:
            self._claim(None)

    def furthest(self) -> tuple[int, Path | None]:
        """(updates, folder) of the furthest undamaged state, which is claimed; (0, None) if there is none."""
        present = {key: kind for kind in (INTERIM, KEPT) for key in self.store.keys(kind)}
        for updates in range(len(self.keys) - 1, 0, -1):
            if (key := self.keys[updates]) in present:
                self._claim(key)
                if (folder := self.store.get(present[key], key)) is not None:
                    return updates, folder
        self._claim(None)
        return 0, None

    @contextlib.contextmanager
    def saving(self, updates: int, *, kept: bool) -> Iterator[Path]:
        """A folder for the state after `updates`. Of the interim states only the last stays on disk beside it."""
        self._drop(self._interim()[:-1])
        with self.store.writing(KEPT if kept else INTERIM, self.keys[updates]) as folder:
            yield folder
        self._claim(self.keys[updates])

    def finished(self, *, keep: bool) -> Path:
        """The folder of the last state, which stays; all interim states besides are dropped."""
        store, last = self.store, self.keys[-1]
        if keep and not store.has(KEPT, last) and store.has(INTERIM, last):
            store.link(INTERIM, last, KEPT)
        folder = store.get(KEPT, last) or store.get(INTERIM, last)
        assert folder is not None, f"state {last} vanished from the store"
        is_kept = folder.parent.name == KEPT
        self._claim(None)
        self._drop([updates for updates in self._interim() if is_kept or updates < len(self.keys) - 1])
        return folder

    def drop_interim(self) -> None:
        """Drop all interim states that no other run claims."""
        self._claim(None)
        self._drop(self._interim())

    def last_saved(self) -> int:
        """Updates of the state that the training would go on from; 0: from its start."""
        return 0 if self._claimed is None else self.keys.index(self._claimed)

    def _interim(self) -> list[int]:
        """The updates after which there is an interim state, ascending."""
        present = self.store.keys(INTERIM)
        return [updates for updates, key in enumerate(self.keys) if key in present]

    def _drop(self, updates: list[int]) -> None:
        for number in updates:
            self.store.drop(INTERIM, self.keys[number])

    def _claim(self, key: str | None) -> None:
        """Claim this state before the claim on the one before it ends."""
        before, self._claimed = self._claimed, key
        if key == before:
            return
        if key is not None:
            self.store.claims.claim(key)
        if before is not None:
            self.store.claims.unclaim(before)


def read_steps(folder: Path) -> list[StepRecord]:
    """The records of all updates up to a state."""
    return [StepRecord(**json.loads(line)) for line in (folder / STEPS).read_text().splitlines()]
