"""Several sources by weight: each in its own order, interleaved by Webster's method (Sainte-Lague).

Instance j (from 0) of a source of weight w has the place (j + 1/2) / w, and the stream is sorted by place. So nothing
is random, a shorter window is a prefix of a longer one, and after n instances a source has had w * n of them within
one: always for up to three sources, with rare exceptions for more (Balinski, Young: Fair Representation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweep.data.order import DataOrder


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """One source of a mixture."""

    name: str
    weight: float
    """Its share of the instances is this weight over the sum of all weights."""
    num_instances: int
    order: DataOrder
    """The source's own order, in batches of one instance; indices count from the source's first instance."""


@dataclass(frozen=True, kw_only=True)
class Mixture(DataOrder):
    """The order of several sources whose instances lie end to end, in the order of `parts`."""

    parts: tuple[MixturePart, ...]

    def rows(self, num_updates: int) -> np.ndarray:
        """Instance indices int64 (num_updates, batch_size)."""
        owner = self._owners(num_updates)
        indices = np.empty(len(owner), dtype=np.int64)
        offset = 0
        for number, part in enumerate(self.parts):
            places = owner == number
            indices[places] = part.order.rows(int(places.sum()))[:, 0]
            indices[places] += offset
            offset += part.num_instances
        return indices.reshape(num_updates, self.batch_size)

    def identity(self) -> list[Any]:
        """The batch size, and each source's weight, size and order."""
        parts = [[part.weight, part.num_instances, part.order.identity()] for part in self.parts]
        return ["mixture", self.batch_size, parts]

    def counts(self, num_updates: int) -> dict[str, int]:
        """Source -> number of its instances in so many updates."""
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
