"""Several sources by weight: each in its own order, interleaved by Webster's method (Sainte-Lague).

The j-th instance (from 0) of a source of weight w stands at (j + 1/2) / w; the stream is all of them in order of that
place. So nothing is drawn, a shorter window is a prefix of a longer one, and after n instances a source has w * n of
them within one: always for up to three sources, with rare exceptions for more (Balinski, Young: Fair Representation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.data.order import Order, stepped
from sweep.domain.records import Position


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of a mixture."""

    name: str
    weight: float
    """Share of the instances, over the sum of all weights."""
    num_instances: int
    order: Order
    """Its own, with batches of one instance; indices count from the source's first."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The order of several sources whose instances lie end to end, in the order of `parts`."""

    parts: tuple[Part, ...]
    position: Position
    batch_size: int

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices int64 (num_updates, batch_size)."""
        owner = self._owners(num_updates)
        indices = np.empty(len(owner), dtype=np.int64)
        offset = 0
        for number, part in enumerate(self.parts):
            mine = owner == number
            indices[mine] = part.order.rows(int(mine.sum()))[:, 0]
            indices[mine] += offset
            offset += part.num_instances
        return indices.reshape(num_updates, self.batch_size)

    def after(self, num_updates: int, *, lr: float) -> Position:
        """Steps and tokens go on; the place in the original data is kept."""
        return stepped(self.position, num_updates, batch_size=self.batch_size, lr=lr)

    def identity(self) -> list[Any]:
        """Each source's weight, size and order."""
        parts = [[part.weight, part.num_instances, part.order.identity()] for part in self.parts]
        return ["mixture", self.batch_size, parts]

    def counts(self, num_updates: int) -> dict[str, int]:
        """Source -> its instances in so many updates."""
        taken = np.bincount(self._owners(num_updates), minlength=len(self.parts))
        return {part.name: int(count) for part, count in zip(self.parts, taken, strict=True)}

    def _owners(self, num_updates: int) -> np.ndarray:
        return interleaved([part.weight for part in self.parts], num_updates * self.batch_size)


def interleaved(weights: Sequence[float], count: int) -> np.ndarray:
    """The source of each of `count` instances, (count,), sources numbered as in `weights`."""
    shares = np.asarray(weights, dtype=np.float64) / math.fsum(weights)
    enough = [math.ceil(share * (count + len(shares))) + 1 for share in shares]
    places = np.concatenate([(np.arange(n) + 0.5) / share for n, share in zip(enough, shares, strict=True)])
    owners = np.repeat(np.arange(len(shares)), enough)
    return owners[np.argsort(places, kind="stable")][:count]
