"""Batches of a pack as tensors on a device: trees side by side, with attention in groups of similar segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.evaluate.attention_layout import Ints, SegmentKeys, count, new_indices, similar_segments
from sweep.evaluate.pack import Pack

ALL_BEFORE = -1
"""A window without an end."""


@dataclass(frozen=True, kw_only=True)
class SegmentGroup:
    """S segments with Q queries each, which attend to K nodes each."""

    num_segments: int
    queries: slice
    """The S * Q queries of the group among all."""
    key: Tensor | None
    """(S * K,) node of each key; None: the keys are the queries' nodes."""
    mask: Tensor | None
    """(S or 1, 1, Q, K) is added to the attention scores: 0 or -inf; None: every query attends to every key, or
    causally to the queries' nodes."""


@dataclass(frozen=True, kw_only=True)
class TreeBatch:
    """N nodes of trees, and what is predicted from them. Nodes and rows stand in the order of their groups."""

    token: Tensor
    """(U,) the distinct tokens."""
    ids: Tensor
    """(N,) index into `token`."""
    position: Tensor
    """(N,) depth in the tree."""
    num_positions: int
    """The depth of the deepest node, plus 1."""
    groups: tuple[SegmentGroup, ...]
    """Attention whose queries are all nodes."""
    row: Tensor
    """(R,) the nodes that predict."""
    row_groups: tuple[SegmentGroup, ...]
    """Attention whose queries are the nodes that predict."""
    target_row: Tensor
    """(P,) index into `row` for each predicted token."""
    target: Tensor
    """(P,) the predicted tokens."""


class TreeBatches:
    """The batches of a pack. A span is a slice of neighbours; it becomes one `TreeBatch` when it is asked for."""

    def __init__(self, pack: Pack, device: torch.device) -> None:
        self.pack = pack
        self._device = device
        self._node, self._segment, self._row = (
            _ends(sizes) for sizes in (pack.batch_nodes, pack.batch_segments, pack.batch_rows)
        )
        self._above = _ends(np.add.reduceat(pack.segment_above, self._segment[:-1]))
        self._above_node = pack.above + np.repeat(self._node[:-1], np.diff(self._above))
        self._row_node = pack.row + np.repeat(self._node[:-1], pack.batch_rows)
        self._target = np.searchsorted(pack.target_row, self._row)

    def cut(self, most_nodes: int, within: slice = slice(None)) -> list[slice]:
        """The batches `within` a slice, in spans of at most `most_nodes` nodes, or of one larger batch."""
        begin, stop, _ = within.indices(len(self.pack.batch_nodes))
        spans = []
        while begin < stop:
            reach = int(np.searchsorted(self._node, self._node[begin] + most_nodes, side="right")) - 1
            end = min(max(reach, begin + 1), stop)
            spans.append(slice(begin, end))
            begin = end
        return spans

    def nodes(self, span: slice) -> int:
        """The number of nodes of a span."""
        return int(self._node[span.stop] - self._node[span.start])

    def targets(self, span: slice) -> slice:
        """The predicted tokens of a span among those of the pack."""
        return slice(self._target[span.start], self._target[span.stop])

    def __getitem__(self, span: slice) -> TreeBatch:
        node, segment, above, row, target = (
            slice(ends[span.start], ends[span.stop])
            for ends in (self._node, self._segment, self._above, self._row, self._target)
        )
        num_own, num_above = (
            sizes[segment].astype(np.int64) for sizes in (self.pack.segment_nodes, self.pack.segment_above)
        )
        groups = list(similar_segments(num_own, num_above + num_own))
        node_index = new_indices(groups, num_own)
        depth = np.repeat(num_above, num_own) + count(num_own)
        position = np.empty_like(depth)
        position[node_index] = depth
        keys = SegmentKeys(node_index, num_own, node_index[self._above_node[above] - node.start], num_above)

        row_node = self._row_node[row] - node.start
        row_segment = np.repeat(np.arange(len(num_own)), num_own)[row_node]
        num_rows = np.bincount(row_segment, minlength=len(num_own))
        num_seen = np.zeros_like(num_own)
        num_seen[row_segment] = depth[row_node] + 1  # rows ascend: the last one of a segment stays
        row_groups = list(similar_segments(num_rows, num_seen))
        row_index = new_indices(row_groups, num_rows)
        rows = np.empty_like(row_index)
        rows[row_index] = node_index[row_node]

        ordered_tokens = np.empty_like(self.pack.ids[node])
        ordered_tokens[node_index] = self.pack.ids[node]
        token, ids = np.unique(ordered_tokens, return_inverse=True)
        return TreeBatch(
            token=self._tensor(token.astype(np.int64)),
            ids=self._tensor(ids),
            position=self._tensor(position),
            num_positions=int(position.max()) + 1,
            groups=tuple(self._groups(groups, num_own, num_above + num_own, position, keys, every=True)),
            row=self._tensor(rows),
            row_groups=tuple(self._groups(row_groups, num_rows, num_seen, position[rows], keys, every=False)),
            target_row=self._tensor(row_index[self.pack.target_row[target] - row.start]),
            target=self._tensor(self.pack.target[target].astype(np.int64)),
        )

    def _groups(
        self, groups: list[Ints], num_queries: Ints, num_keys: Ints, depth: Ints, keys: SegmentKeys, *, every: bool
    ) -> Iterator[SegmentGroup]:
        deepest = int(num_keys.max())
        unseen = torch.full((deepest, deepest), -torch.inf, device=self._device).triu_(1)
        end = 0
        for members in groups:
            queries, most = int(num_queries[members[0]]), int(num_keys[members[0]])
            begin, end = end, end + len(members) * queries
            causal = every and most == queries
            yield SegmentGroup(
                num_segments=len(members),
                queries=slice(begin, end),
                key=None if causal else self._tensor(keys.padded(members, most)),
                mask=None if causal else self._mask(unseen[:, :most], depth[begin:end].reshape(-1, queries)),
            )

    def _mask(self, unseen: Tensor, depth: Ints) -> Tensor | None:
        """The rows of `unseen` for queries of depth (S, Q); None: no query has a key to hide."""
        if (depth >= unseen.shape[1] - 1).all():
            return None
        if (depth == depth[0]).all():
            depth = depth[:1]
        return unseen.index_select(0, self._tensor(depth.ravel())).view(len(depth), 1, *depth.shape[1:], -1)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _ends(sizes: NDArray[np.int32]) -> Ints:
    """0, and then the end of each part when parts of these sizes stand one after another."""
    return np.concatenate(([0], np.cumsum(sizes)))


def narrowed(groups: tuple[SegmentGroup, ...], position: Tensor, window: int) -> tuple[SegmentGroup, ...]:
    """The groups where a node attends to the last `window` nodes on its path alone, itself among them.

    `position` (all queries,) is the depth of each query. The keys of a segment are a path from the root, so that the
    depth of a key is its place.
    """
    if window == ALL_BEFORE or not len(position) or int(position.max()) < window:
        return groups
    return tuple(_narrowed(group, position[group.queries], window) for group in groups)


def _narrowed(group: SegmentGroup, position: Tensor, window: int) -> SegmentGroup:
    depth = position.view(group.num_segments, 1, -1, 1)
    num_keys = depth.shape[2] if group.key is None else len(group.key) // group.num_segments
    distance = depth - torch.arange(num_keys, device=depth.device)
    seen = (distance >= 0) & (distance < window)
    mask = torch.zeros(seen.shape, device=depth.device).masked_fill_(~seen, -torch.inf)
    return dataclasses.replace(group, mask=mask)
