"""Batches of a pack as tensors on a device: trees side by side, their attention in groups of segments of like shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.evaluate.layout import Ints, Keys, alike, count, distinct, places
from sweep.evaluate.pack import Pack

PARTS = 32
"""Batches wanted of a pack: threads share them. Not the number of threads, on which no bit may depend."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """S segments with Q queries each, that look at K nodes each."""

    num_segments: int
    queries: slice
    """S * Q of all queries."""
    key: Tensor | None
    """(S * K,) node of each key; None: the queries' own nodes, causally."""
    mask: Tensor | None
    """(S or 1, 1, Q, K) to add to the scores: 0 or -inf; None: nothing to hide."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """N nodes of trees and what to predict from them; nodes and rows stand in the order of their groups."""

    token: Tensor
    """(U,) tokens that occur."""
    ids: Tensor
    """(N,) index into `token`."""
    position: Tensor
    """(N,) depth in the tree."""
    num_positions: int
    groups: tuple[Group, ...]
    """Queries are the nodes."""
    row: Tensor
    """Nodes that predict."""
    row_groups: tuple[Group, ...]
    """Queries are the rows."""
    target_row: Tensor
    """Index into `row` of each predicted token."""
    target: Tensor


class Batches:
    """A pack's batches from the `first` on, joined while they have at most `most_nodes` nodes together.

    Each is built when asked for.
    """

    def __init__(self, pack: Pack, device: torch.device, *, most_nodes: int, first: int = 0) -> None:
        self._pack = pack
        self._device = device
        node, segment, row = (_ends(sizes) for sizes in (pack.batch_nodes, pack.batch_segments, pack.batch_rows))
        above = _ends(np.add.reduceat(pack.segment_above, segment[:-1]))
        self._above_node = pack.above + np.repeat(node[:-1], np.diff(above))
        self._row_node = pack.row + np.repeat(node[:-1], pack.batch_rows)
        cuts = _cuts(node, min(most_nodes, pack.num_nodes // PARTS), first)
        self.first = cuts
        """(B + 1,) the pack's batch that each begins with."""
        self.node = node[cuts]
        """(B + 1,) where the nodes of each batch begin."""
        self.target = np.searchsorted(pack.target_row, row[cuts])
        """(B + 1,) where its predicted tokens begin."""
        self._segment, self._above, self._row = segment[cuts], above[cuts], row[cuts]

    def __len__(self) -> int:
        return len(self.node) - 1

    def __getitem__(self, index: int) -> Batch:
        node, segment, above, row, target = (
            slice(ends[index], ends[index + 1])
            for ends in (self.node, self._segment, self._above, self._row, self.target)
        )
        pack = self._pack
        num_own, num_above = (of[segment].astype(np.int64) for of in (pack.segment_nodes, pack.segment_above))
        groups = list(alike(num_own, num_above + num_own))
        place = places(groups, num_own)
        depth = np.repeat(num_above, num_own) + count(num_own)
        position = np.empty_like(depth)
        position[place] = depth
        keys = Keys(place, num_own, place[self._above_node[above] - node.start], num_above)

        row_node = self._row_node[row] - node.start
        row_segment = np.repeat(np.arange(len(num_own)), num_own)[row_node]
        num_rows = np.bincount(row_segment, minlength=len(num_own))
        num_seen = np.zeros_like(num_own)
        num_seen[row_segment] = depth[row_node] + 1  # ascending: the last one stays
        row_groups = list(alike(num_rows, num_seen))
        row_place = places(row_groups, num_rows)
        rows = np.empty_like(row_place)
        rows[row_place] = place[row_node]

        token, ids = distinct(pack.ids[node])
        ordered_ids = np.empty_like(ids)
        ordered_ids[place] = ids
        return Batch(
            token=self._tensor(token),
            ids=self._tensor(ordered_ids),
            position=self._tensor(position),
            num_positions=int(position.max()) + 1,
            groups=tuple(self._groups(groups, num_own, num_above + num_own, position, keys, every=True)),
            row=self._tensor(rows),
            row_groups=tuple(self._groups(row_groups, num_rows, num_seen, position[rows], keys, every=False)),
            target_row=self._tensor(row_place[pack.target_row[target] - row.start]),
            target=self._tensor(pack.target[target].astype(np.int64)),
        )

    def _groups(
        self, groups: list[Ints], num_queries: Ints, num_keys: Ints, depth: Ints, keys: Keys, *, every: bool
    ) -> Iterator[Group]:
        deepest = int(num_keys.max())
        unseen = torch.full((deepest, deepest), -torch.inf, device=self._device).triu_(1)
        end = 0
        for members in groups:
            queries, most = int(num_queries[members[0]]), int(num_keys[members[0]])
            begin, end = end, end + len(members) * queries
            causal = every and most == queries
            yield Group(
                num_segments=len(members),
                queries=slice(begin, end),
                key=None if causal else self._tensor(keys.padded(members, most)),
                mask=None if causal else self._mask(unseen[:, :most], depth[begin:end].reshape(-1, queries)),
            )

    def _mask(self, unseen: Tensor, depth: Ints) -> Tensor | None:
        """The rows of `unseen` for queries of depth (S, Q); None: all see all."""
        if (depth >= unseen.shape[1] - 1).all():
            return None
        if (depth == depth[0]).all():
            depth = depth[:1]
        return unseen.index_select(0, self._tensor(depth.ravel())).view(len(depth), 1, *depth.shape[1:], -1)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _ends(sizes: NDArray[np.int32]) -> Ints:
    """0 and where each ends."""
    return np.concatenate(([0], np.cumsum(sizes)))


def _cuts(ends: Ints, most: int, first: int) -> list[int]:
    """Indices into `ends` from `first` on, of which neighbours lie at most `most` apart where that can be."""
    cuts = [first]
    while cuts[-1] < len(ends) - 1:
        reach = int(np.searchsorted(ends, ends[cuts[-1]] + most, side="right")) - 1
        cuts.append(max(reach, cuts[-1] + 1))
    return cuts
