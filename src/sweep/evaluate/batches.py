"""A pack's batches as tensors on a device: the attention of each batch laid out as groups of segments of like shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweep.evaluate.pack import Pack

FILL = 0.5
"""A segment joins a group where it is at least this fraction as long as the group's longest: padding against calls."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Segments padded to one shape: S of them, Q nodes each that look at K nodes each."""

    query: Tensor
    """(S * Q,) node of each slot; pads repeat node 0."""
    key: Tensor
    """(S * K,) node of each slot; pads repeat node 0."""
    num_segments: int
    mask: Tensor | None
    """(S, 1, Q, K) to add to the scores: 0 or -inf; None: causal, Q = K."""
    slot: Tensor
    """Slots that are no pads, in the order of `node`."""
    node: Tensor
    """Nodes that the group computes."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Trees of N nodes side by side, and what to predict from them."""

    ids: Tensor
    """(N,)"""
    position: Tensor
    """(N,) depth in the tree."""
    groups: tuple[Group, ...]
    row: Tensor
    """Nodes that predict."""
    target_row: Tensor
    """Index into `row` of each predicted token, ascending."""
    target: Tensor


class Batches:
    """The batches of a pack, each built when asked for."""

    def __init__(self, pack: Pack, device: torch.device) -> None:
        self._pack = pack
        self._device = device
        num_above = np.add.reduceat(pack.segment_above, _offsets(pack.batch_segments)[:-1])
        self._node, self._segment, self._above, self._row = (
            _offsets(sizes) for sizes in (pack.batch_nodes, pack.batch_segments, num_above, pack.batch_rows)
        )
        self.target = np.searchsorted(pack.target_row, self._row)
        """(B + 1,) where the predicted tokens of each batch begin."""

    def __len__(self) -> int:
        return len(self._pack.batch_nodes)

    def __getitem__(self, index: int) -> Batch:
        node, segment, above, row, target = (
            slice(start[index], start[index + 1])
            for start in (self._node, self._segment, self._above, self._row, self.target)
        )
        pack, device = self._pack, self._device
        size, num_above = pack.segment_nodes[segment], pack.segment_above[segment]
        return Batch(
            ids=_tensor(pack.ids[node], device),
            position=_tensor(np.repeat(num_above, size) + _count(size), device),
            groups=tuple(_groups(size, num_above, pack.above[above], device)),
            row=_tensor(pack.row[row], device),
            target_row=_tensor(pack.target_row[target] - self._row[index], device),
            target=_tensor(pack.target[target], device),
        )


def _offsets(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where each begins, and the end of all."""
    return np.concatenate(([0], np.cumsum(sizes)))


def _groups(
    size: NDArray[np.int32], num_above: NDArray[np.int32], above: NDArray[np.int32], device: torch.device
) -> Iterator[Group]:
    start, above_start = np.cumsum(size) - size, np.cumsum(num_above) - num_above
    for members in _alike(size, num_above):
        own, up = size[members], num_above[members]
        queries, keys = int(own.max()), int((own + up).max())
        node = np.repeat(start[members], own) + _count(own)
        base = np.arange(len(members))
        slot = np.repeat(base * queries, own) + _count(own)
        query = np.zeros(len(members) * queries, dtype=np.int64)
        query[slot] = node
        key, mask = query, None
        if up.any():
            key = np.zeros(len(members) * keys, dtype=np.int64)
            key[np.repeat(base * keys, up) + _count(up)] = above[np.repeat(above_start[members], up) + _count(up)]
            key[np.repeat(base * keys + up, own) + _count(own)] = node
            depth = up[:, None, None] + np.arange(queries)[:, None]
            hidden = _tensor(np.arange(keys) > depth, device)
            mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)[:, None]
        yield Group(
            query=_tensor(query, device),
            key=_tensor(key, device),
            num_segments=len(members),
            mask=mask,
            slot=_tensor(slot, device),
            node=_tensor(node, device),
        )


def _alike(size: NDArray[np.int32], num_above: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Segments by groups: roots apart from branches, longest first, each group within FILL of its longest."""
    for kind in (num_above == 0, num_above > 0):
        members = np.flatnonzero(kind)
        members = members[np.lexsort((-num_above[members], -size[members]))]
        while len(members):
            alike = int(np.searchsorted(-size[members], -FILL * size[members[0]], side="right"))
            yield members[:alike]
            members = members[alike:]


def _count(sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """0, 1, ... below each size in turn."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _tensor(array: NDArray[np.generic], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
