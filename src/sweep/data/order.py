"""Which instances come next: the order of `olmo.data.IterableDataset`, read as OLMo's trainer reads it, or a new one.

OLMo's epoch e is shuffled by PCG64(seed + e); what is left of an epoch below a batch is dropped (`drop_last`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sweep.domain.records import Position


class Order(Protocol):
    """Which instances each update of an anneal reads."""

    @property
    def batch_size(self) -> int:
        """Instances an update."""
        ...

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices (num_updates, batch_size); fewer updates give a prefix of more."""
        ...

    def after(self, num_updates: int, *, lr: float) -> Position:
        """What a checkpoint saved after so many updates says of its position."""
        ...

    def identity(self) -> list[Any]:
        """What tells this order from others of the same instances, ready for a digest."""
        ...


@dataclass(frozen=True, kw_only=True)
class Continued:
    """The original order, on from where the checkpoint stopped."""

    num_instances: int
    position: Position
    batch_size: int
    shuffle_seed: int = 0
    """Above 0: what the epoch has not yet shown, in another order."""

    def rows(self, num_updates: int) -> np.ndarray:
        """See `window`."""
        return window(
            self.num_instances,
            position=self.position,
            batch_size=self.batch_size,
            num_updates=num_updates,
            shuffle_seed=self.shuffle_seed,
        )

    def after(self, num_updates: int, *, lr: float) -> Position:
        """See `advance`."""
        return advance(self.position, num_updates, num_instances=self.num_instances, batch_size=self.batch_size, lr=lr)

    def identity(self) -> list[Any]:
        """The position and the seeds."""
        position = self.position
        return ["continue", position.data_seed, position.epoch, position.instances, self.batch_size, self.shuffle_seed]


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """A new order of the whole data from its start: epoch e is shuffled by PCG64([seed, e, 1])."""

    num_instances: int
    position: Position
    """Where the checkpoint stands in its own data, which stays as it is."""
    batch_size: int
    seed: int

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices uint32 (num_updates, batch_size), the same for every checkpoint."""
        check_batch(self.num_instances, self.batch_size)
        return _batches(_fresh(self.num_instances, self.seed), self.batch_size, num_updates)

    def after(self, num_updates: int, *, lr: float) -> Position:
        """Steps and tokens go on; the place in the original data is kept."""
        return stepped(self.position, num_updates, batch_size=self.batch_size, lr=lr)

    def identity(self) -> list[Any]:
        """The seed."""
        return ["fresh", self.batch_size, self.seed]


def epoch_order(num_instances: int, *, seed: int, epoch: int) -> np.ndarray:
    """All instance indices, uint32, in the order that an epoch reads them."""
    if num_instances >= np.iinfo(np.uint32).max:
        raise ValueError(f"{num_instances} instances do not fit OLMo's uint32 indices")
    indices = np.arange(num_instances, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed + epoch)).shuffle(indices)
    return indices


def window(
    num_instances: int, *, position: Position, batch_size: int, num_updates: int, shuffle_seed: int = 0
) -> np.ndarray:
    """Instance indices uint32 (num_updates, batch_size) of the updates after `position`, the first row next.

    A `shuffle_seed` above 0 draws what this epoch has not yet shown (and later epochs) in another order, so that
    nothing already seen is repeated. A shorter window is always a prefix of a longer one from the same position.
    """
    check(num_instances, position, batch_size)
    return _batches(_original(num_instances, position, shuffle_seed), batch_size, num_updates)


def advance(position: Position, num_updates: int, *, num_instances: int, batch_size: int, lr: float) -> Position:
    """The position after `num_updates` updates of `window`; an epoch's end is only passed when a batch needs it.

    That is how OLMo saves it: after an epoch's last batch the epoch is still the old one.
    """
    check(num_instances, position, batch_size)
    epoch, seen, left = position.epoch, position.instances, num_updates
    while left > (batches := (num_instances - seen) // batch_size):
        left -= batches
        epoch, seen = epoch + 1, 0
    there = dataclasses.replace(position, epoch=epoch, instances=seen + left * batch_size)
    return stepped(there, num_updates, batch_size=batch_size, lr=lr)


def stepped(position: Position, num_updates: int, *, batch_size: int, lr: float) -> Position:
    """The position `num_updates` updates on, its place in the data aside."""
    return dataclasses.replace(
        position,
        step=position.step + num_updates,
        tokens=position.tokens + num_updates * batch_size * position.sequence_length,
        lr=lr,
        batch_size=batch_size,
    )


def check(num_instances: int, position: Position, batch_size: int) -> None:
    """ValueError where data of so many instances can't be what `position` stands in, or holds no batch."""
    check_batch(num_instances, batch_size)
    if not 0 <= position.instances <= num_instances:
        raise ValueError(
            f"the checkpoint has seen {position.instances} instances of epoch {position.epoch}, "
            f"but the data has {num_instances}: this is not the data it was trained on"
        )


def check_batch(num_instances: int, batch_size: int) -> None:
    """ValueError where the data hold no batch."""
    if not 1 <= batch_size <= num_instances:
        raise ValueError(f"batch_size is {batch_size}; the data has {num_instances} instances, so 1 to {num_instances}")


def _original(num_instances: int, position: Position, shuffle_seed: int) -> Iterator[np.ndarray]:
    """What the position's epoch has not yet shown, then epoch after epoch."""
    epoch, seen = position.epoch, position.instances
    while True:
        rest = epoch_order(num_instances, seed=position.data_seed, epoch=epoch)[seen:]
        if shuffle_seed > 0:
            np.random.Generator(np.random.PCG64([position.data_seed + epoch, shuffle_seed])).shuffle(rest)
        yield rest
        epoch, seen = epoch + 1, 0


def _fresh(num_instances: int, seed: int) -> Iterator[np.ndarray]:
    """Epoch after epoch; the last 1 keeps the seeds apart from those of `_original`, as trailing zeros don't count."""
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
