"""How the attention of a batch is laid out: segments of similar shape form groups, which are computed together.

A segment has queries (all its nodes, or those that predict) and keys (its nodes and the nodes above it). Nodes get new
numbers, group after group, so that the queries of a group are a slice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FILL = 0.8
"""A segment joins a group if it has at least this fraction of the group's most keys: less would mean more padding."""

Ints = NDArray[np.int64]


def count(sizes: Ints) -> Ints:
    """0, 1, ... up to below each size in turn: for 2 and 3 it is 0, 1, 0, 1, 2."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def similar_segments(queries: Ints, keys: Ints) -> Iterator[Ints]:
    """Groups of the segments that have queries, with equally many queries and a number of keys within FILL.

    Segments with as many keys as queries form groups of their own.
    """
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


def new_indices(groups: list[Ints], sizes: Ints) -> Ints:
    """The new index of each item, if segments with `sizes` items are put in the order of the groups."""
    order = np.concatenate(groups)
    start = np.empty_like(sizes)
    start[order] = np.cumsum(sizes[order]) - sizes[order]
    return np.repeat(start, sizes) + count(sizes)


class SegmentKeys:
    """The nodes that each segment attends to, from the root downwards."""

    def __init__(self, own: Ints, num_own: Ints, above: Ints, num_above: Ints) -> None:
        number = num_above + num_own
        self._start = np.cumsum(number) - number
        self._node = np.empty(number.sum(), dtype=np.int64)
        self._node[np.repeat(self._start, num_above) + count(num_above)] = above
        self._node[np.repeat(self._start + num_above, num_own) + count(num_own)] = own

    def padded(self, members: Ints, num_keys: int) -> Ints:
        """(S * num_keys,) the first `num_keys` nodes of each of S segments, filled up with any nodes."""
        index = self._start[members][:, None] + np.arange(num_keys)
        return self._node.take(index.ravel(), mode="clip")
