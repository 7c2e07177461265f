"""How the attention of a batch is laid out: segments of like shape together, so that a group is a few large products.

Segments have a number of queries (all their nodes, or those that predict) and a number of keys (the nodes above them
and their own). Nodes are counted anew, group after group, which makes a group's queries a slice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FILL = 0.8
"""A segment joins a group where it has at least this fraction of the longest's keys: padding against calls."""

Ints = NDArray[np.int64]


def count(sizes: Ints) -> Ints:
    """0, 1, ... below each size in turn."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def alike(queries: Ints, keys: Ints) -> Iterator[Ints]:
    """Segments that have queries, by groups: as many queries, keys within FILL; those that see but themselves apart."""
    order = np.lexsort((-keys, -queries))[: np.count_nonzero(queries)]
    of_queries, of_keys = queries[order], keys[order]
    begin = 0
    while begin < len(order):
        most, own = of_keys[begin], of_queries[begin]
        fewest = own if most == own else max(FILL * most, own + 1)
        end = begin + int(np.searchsorted(-of_queries[begin:], -own, side="right"))
        end = begin + int(np.searchsorted(-of_keys[begin:end], -fewest, side="right"))
        yield order[begin:end]
        begin = end


def places(groups: list[Ints], sizes: Ints) -> Ints:
    """The new index of each item, where segments have `sizes` items and stand in the order of the groups."""
    order = np.concatenate(groups)
    start = np.empty_like(sizes)
    start[order] = np.cumsum(sizes[order]) - sizes[order]
    return np.repeat(start, sizes) + count(sizes)


class Keys:
    """The nodes that each segment sees, root downwards."""

    def __init__(self, own: Ints, num_own: Ints, above: Ints, num_above: Ints) -> None:
        number = num_above + num_own
        self._start = np.cumsum(number) - number
        self._node = np.empty(number.sum(), dtype=np.int64)
        self._node[np.repeat(self._start, num_above) + count(num_above)] = above
        self._node[np.repeat(self._start + num_above, num_own) + count(num_own)] = own

    def padded(self, members: Ints, num_keys: int) -> Ints:
        """(S * num_keys,) of each of S segments the first `num_keys`; any node where it has fewer."""
        place = self._start[members][:, None] + np.arange(num_keys)
        return self._node.take(place.ravel(), mode="clip")


def distinct(tokens: NDArray[np.int32]) -> tuple[NDArray[np.int64], Ints]:
    """The tokens that occur, and the index of each among them."""
    occurs = np.zeros(int(tokens.max()) + 1, dtype=bool)
    occurs[tokens] = True
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[tokens]
