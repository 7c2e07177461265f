"""What one worker keeps in memory from run to run: small, and named by the digests of all that decides it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sweep.evaluate import Pack
    from sweep.run.checkpoint_folder import CheckpointFolder
    from sweep.run.score import TaskScores

T = TypeVar("T")

CHECKPOINTS = 4
PACK_BYTES = 256 << 20
"""Packs are kept up to this size in all."""
RECORD_BYTES = 64 << 20
"""Records are kept up to this size in all: those of the checkpoint are read once for all of its runs."""


class Recent(Generic[T]):
    """The last things that were made, as many as fit; the one that was not asked for the longest goes first."""

    def __init__(self, most: int, size: Callable[[T], int] = lambda thing: 1) -> None:
        self._most, self._size = most, size
        self._things: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str, make: Callable[[], T], *, still: Callable[[T], bool] = lambda thing: True) -> T:
        """What is kept under this key, if it `still` holds; else what `make` makes, which is kept from now on."""
        if key not in self._things or not still(self._things[key]):
            self._things[key] = make()
        self._things.move_to_end(key)
        thing = self._things[key]
        while len(self._things) > 1 and sum(map(self._size, self._things.values())) > self._most:
            self._things.popitem(last=False)
        return thing


class Memory:
    """Owned by one worker, and passed to each of its runs; the first run of a process begins with an empty one."""

    def __init__(self) -> None:
        self.checkpoints: Recent[CheckpointFolder] = Recent(CHECKPOINTS)
        """Opened checkpoints, by the choices that name them."""
        self.config_texts: Recent[str] = Recent(CHECKPOINTS)
        """The text of config.yaml in the states that start from a checkpoint, by the checkpoint's key."""
        self.packs: Recent[Pack] = Recent(PACK_BYTES, lambda pack: pack.nbytes)
        """Tokenised tasks, by their key in the store."""
        self.scores: Recent[TaskScores] = Recent(RECORD_BYTES, lambda scores: scores.table.nbytes)
        """What a task's records say, by their file."""
