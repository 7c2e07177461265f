"""Which instances come next: the order of `olmo.data.IterableDataset`, read as OLMo's trainer reads it, or a new one.

OLMo shuffles epoch e by PCG64(seed + e) and drops what remains of an epoch below a batch (`drop_last`). OLMo-core's
loader of fixed lengths does the same; its first epoch is 1, and it may shuffle chunks of instances.
"""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.domain.records import Position


@dataclass(frozen=True, kw_only=True)
class DataOrder(ABC):
    """Which instances each update of an anneal reads."""

    position: Position
    """Where the checkpoint is in its own data."""
    batch_size: int
    """Instances per update."""

    @abstractmethod
    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices (num_updates, batch_size); fewer updates give a prefix of more."""

    @abstractmethod
    def identity(self) -> list[Any]:
        """Values that tell this order from others of the same instances, ready for a digest."""

    def after(self, num_updates: int, *, lr: float) -> Position:
        """The position of a checkpoint saved after so many updates; its place in its own data stays as it is."""
        return dataclasses.replace(
            self.position,
            step=self.position.step + num_updates,
            tokens=self.position.tokens + num_updates * self.batch_size * self.position.sequence_length,
            lr=lr,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True, kw_only=True)
class Continued(DataOrder):
    """The original order, from where the checkpoint stopped."""

    num_instances: int
    shuffle_seed: int = 0
    """If above 0, the instances that this epoch has not read yet, and later epochs, come in another order."""
    chunk: int = 1
    """Instances that stay neighbours in the original order, as in OLMo-core; `num_instances` is a multiple."""

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices uint32 (num_updates, batch_size); raises ValueError as `check_position` does."""
        check_position(self.num_instances, self.position, self.batch_size)
        epochs = _original(self.num_instances, self.position, self.shuffle_seed, self.chunk)
        return _batches(epochs, self.batch_size, num_updates)

    def after(self, num_updates: int, *, lr: float) -> Position:
        """The position after so many updates, as OLMo saves it: after an epoch's last batch the epoch is still the old.

        Raises ValueError as `check_position` does.
        """
        check_position(self.num_instances, self.position, self.batch_size)
        epoch, seen, remaining = self.position.epoch, self.position.instances, num_updates
        while remaining > (batches := (self.num_instances - seen) // self.batch_size):
            remaining -= batches
            epoch, seen = epoch + 1, 0
        position = super().after(num_updates, lr=lr)
        return dataclasses.replace(position, epoch=epoch, instances=seen + remaining * self.batch_size)

    def identity(self) -> list[Any]:
        """The position and the seeds."""
        at, chunks = self.position, [self.chunk] if self.chunk > 1 else []
        return ["continue", at.data_seed, at.epoch, at.instances, self.batch_size, self.shuffle_seed, *chunks]


@dataclass(frozen=True, kw_only=True)
class Started(DataOrder):
    """The order in which the training would read other data from their start, or its own with another seed."""

    num_instances: int
    seed: int
    """It is added to the seed of the training's data."""
    first_epoch: int
    """The number of a training's first epoch."""
    chunk: int = 1
    """As in `Continued`."""

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices uint32 (num_updates, batch_size)."""
        check_batch(self.num_instances, self.batch_size)
        seed = self.position.data_seed + self.seed
        start = dataclasses.replace(self.position, data_seed=seed, epoch=self.first_epoch, instances=0)
        return _batches(_original(self.num_instances, start, 0, self.chunk), self.batch_size, num_updates)

    def identity(self) -> list[Any]:
        """The batch size, the chunk and the seed."""
        seed = self.position.data_seed + self.seed
        return ["start", self.batch_size, seed, self.first_epoch, self.chunk]


@dataclass(frozen=True, kw_only=True)
class Fresh(DataOrder):
    """A new order of the whole data from its start, the same for every checkpoint."""

    num_instances: int
    seed: int

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices uint32 (num_updates, batch_size)."""
        check_batch(self.num_instances, self.batch_size)
        return _batches(_fresh(self.num_instances, self.seed), self.batch_size, num_updates)

    def identity(self) -> list[Any]:
        """The batch size and the seed."""
        return ["fresh", self.batch_size, self.seed]


def epoch_order(num_instances: int, *, seed: int, epoch: int, chunk: int = 1) -> np.ndarray:
    """All instance indices, uint32, in the order that an epoch reads them: `chunk` neighbours at a time."""
    if num_instances >= np.iinfo(np.uint32).max:
        raise ValueError(f"{num_instances} instances do not fit OLMo's uint32 indices")
    indices = np.arange(num_instances // chunk, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed + epoch)).shuffle(indices)
    if chunk == 1:
        return indices
    return (indices[:, None] * np.uint32(chunk) + np.arange(chunk, dtype=np.uint32)).reshape(-1)


def check_position(num_instances: int, position: Position, batch_size: int) -> None:
    """Raises ValueError if data of so many instances can't be those that `position` is in, or hold no batch."""
    check_batch(num_instances, batch_size)
    if not 0 <= position.instances <= num_instances:
        raise ValueError(
            f"the checkpoint has seen {position.instances} instances of epoch {position.epoch}, "
            f"but the data has {num_instances}: this is not the data it was trained on"
        )


def check_batch(num_instances: int, batch_size: int) -> None:
    """Raises ValueError if the data hold no batch."""
    if not 1 <= batch_size <= num_instances:
        raise ValueError(f"batch_size is {batch_size}; the data has {num_instances} instances, so 1 to {num_instances}")


def _original(num_instances: int, position: Position, shuffle_seed: int, chunk: int) -> Iterator[np.ndarray]:
    """The indices that the position's epoch has not read yet, then epoch after epoch."""
    epoch, seen = position.epoch, position.instances
    while True:
        rest = epoch_order(num_instances, seed=position.data_seed, epoch=epoch, chunk=chunk)[seen:]
        if shuffle_seed > 0:
            np.random.Generator(np.random.PCG64([position.data_seed + epoch, shuffle_seed])).shuffle(rest)
        yield rest
        epoch, seen = epoch + 1, 0


def _fresh(num_instances: int, seed: int) -> Iterator[np.ndarray]:
    """Epoch after epoch, each shuffled by PCG64([seed, epoch, 1]).

    The 1 keeps these seeds apart from those of `_original`, because NumPy ignores trailing zeros of a seed.
    """
    for epoch in itertools.count():
        indices = np.arange(num_instances, dtype=np.uint32)
        np.random.Generator(np.random.PCG64([seed, epoch, 1])).shuffle(indices)
        yield indices


def _batches(epochs: Iterator[np.ndarray], batch_size: int, num_updates: int) -> np.ndarray:
    """Whole batches of the epochs, uint32 (num_updates, batch_size); an epoch's remainder is dropped."""
    rows = [np.empty((0, batch_size), dtype=np.uint32)]
    missing = num_updates
    while missing > 0:
        rest = next(epochs)
        taken = min(missing, len(rest) // batch_size)
        rows.append(rest[: taken * batch_size].reshape(taken, batch_size))
        missing -= taken
    return np.concatenate(rows)
