"""Batches of a pack for a model that runs whole sequences: token trees with their masks, or each path in them alone.

A path is a segment with the nodes above it: a sequence as any model of language reads it. A tree computes what its
paths share only once, but the model must take a mask and positions of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sweep.evaluate.attention_layout import Ints, count
from sweep.evaluate.pack import Pack


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """B sequences of at most T tokens, filled up at their ends, and what is predicted from them."""

    ids: Tensor
    """(B, T) tokens."""
    positions: Tensor | None
    """(B, T) depth in the tree; None: each sequence is a plain text."""
    seen: Tensor | None
    """(B, T, T) whether a token attends to another; None: causally to all before it."""
    row: tuple[Tensor, Tensor]
    """(R,) sequence and (R,) place in it of each token that predicts."""
    target_row: Tensor
    """(P,) index into the rows for each predicted token."""
    target: Tensor
    """(P,) the predicted tokens."""
    target_index: Ints
    """(P,) where each of them stands among the targets of the span."""


@dataclass(frozen=True)
class _Sequence:
    """One sequence by its nodes, which are counted within the span."""

    nodes: Ints
    positions: Ints | None
    seen: np.ndarray | None
    own: Ints
    """Places of the nodes that predict in this sequence and in no other."""


@dataclass(frozen=True)
class Span:
    """The part of a pack that neighbouring batches are, as arrays over its own nodes."""

    ids: np.ndarray
    num_own: Ints
    above: list[Ints]
    """For each segment the nodes above it."""
    row: Ints
    target_row: Ints
    target: np.ndarray

    @classmethod
    def of(cls, pack: Pack, span: slice) -> Span:
        """The span of the batches in this slice."""
        node, segment, row = (_part(sizes, span) for sizes in (pack.batch_nodes, pack.batch_segments, pack.batch_rows))
        num_own, num_above = (s[segment].astype(np.int64) for s in (pack.segment_nodes, pack.segment_above))
        begin = int(pack.segment_above[: segment.start].sum())
        above = pack.above[begin : begin + int(num_above.sum())]
        batch_start = np.cumsum(pack.batch_nodes[span]) - pack.batch_nodes[span]
        of_segment = np.repeat(batch_start, pack.batch_segments[span])
        target = slice(*np.searchsorted(pack.target_row, (row.start, row.stop)))
        return cls(
            ids=pack.ids[node],
            num_own=num_own,
            above=np.split(above + np.repeat(of_segment, num_above), np.cumsum(num_above)[:-1]),
            row=pack.row[row] + np.repeat(batch_start, pack.batch_rows[span]),
            target_row=pack.target_row[target].astype(np.int64) - row.start,
            target=pack.target[target].astype(np.int64),
        )

    def sequences(self, *, trees: bool, most_tokens: int, most_rows: int, device: torch.device) -> Iterator[Sequences]:
        """The span in batches of similar lengths, which hold at most so many tokens and rows, or one sequence."""
        made = list(self._trees() if trees else self._paths())
        made = sorted((s for s in made if len(s.own)), key=lambda s: -len(s.nodes))
        while made:
            longest = len(made[0].nodes)
            size, rows = 0, 0
            while size < len(made) and (size == 0 or (size + 1) * longest <= most_tokens):
                rows += len(made[size].own)
                if size and (rows > most_rows or 2 * len(made[size].nodes) < longest):
                    break
                size += 1
            yield self._batch(made[:size], longest, device)
            made = made[size:]

    def _paths(self) -> Iterator[_Sequence]:
        ends = np.cumsum(self.num_own)
        for above, own, end in zip(self.above, self.num_own, ends, strict=True):
            first, last = np.searchsorted(self.row, (end - own, end))
            yield _Sequence(
                np.concatenate((above, np.arange(end - own, end))),
                None,
                None,
                self.row[first:last] - (end - own) + len(above),
            )

    def _trees(self) -> Iterator[_Sequence]:
        ends = np.cumsum(self.num_own)
        roots = [index for index, above in enumerate(self.above) if not len(above)]
        for begin, stop in zip(roots, [*roots[1:], len(self.above)], strict=True):
            first, last = int(ends[begin] - self.num_own[begin]), int(ends[stop - 1])
            seen = np.zeros((last - first, last - first), dtype=np.bool_)
            for above, own, end in zip(self.above[begin:stop], self.num_own[begin:stop], ends[begin:stop], strict=True):
                rows = slice(end - own - first, end - first)
                seen[rows, above - first] = True
                seen[rows, rows] = np.tri(own, dtype=np.bool_)
            num_above = np.array([len(above) for above in self.above[begin:stop]])
            own = self.num_own[begin:stop]
            predicting = slice(*np.searchsorted(self.row, (first, last)))
            yield _Sequence(
                np.arange(first, last), np.repeat(num_above, own) + count(own), seen, self.row[predicting] - first
            )

    def _batch(self, members: list[_Sequence], longest: int, device: torch.device) -> Sequences:
        ids = np.zeros((len(members), longest), dtype=np.int64)
        trees = members[0].seen is not None
        positions = np.zeros((len(members), longest), dtype=np.int64) if trees else None
        seen = np.zeros((len(members), longest, longest), dtype=np.bool_) if trees else None
        row_of_node: dict[int, int] = {}
        for number, member in enumerate(members):
            size = len(member.nodes)
            ids[number, :size] = self.ids[member.nodes]
            row_of_node |= {int(member.nodes[place]): len(row_of_node) + i for i, place in enumerate(member.own)}
            if positions is not None and seen is not None and member.seen is not None:
                positions[number, :size] = member.positions
                seen[number, :size, :size] = member.seen
                seen[number, range(size, longest), range(size, longest)] = True  # what is filled up sees itself
        nodes = self.row[self.target_row]
        targets = np.flatnonzero(np.isin(nodes, list(row_of_node)))
        place = np.concatenate([member.own for member in members])
        sequence = np.repeat(np.arange(len(members)), [len(member.own) for member in members])
        return Sequences(
            ids=torch.from_numpy(ids).to(device),
            positions=None if positions is None else torch.from_numpy(positions).to(device),
            seen=None if seen is None else torch.from_numpy(seen).to(device),
            row=(torch.from_numpy(sequence).to(device), torch.from_numpy(place).to(device)),
            target_row=torch.tensor([row_of_node[int(node)] for node in nodes[targets]], device=device),
            target=torch.from_numpy(self.target[targets]).to(device),
            target_index=targets,
        )


def _part(sizes: np.ndarray, span: slice) -> slice:
    """The slice of what stands batch after batch, with these sizes."""
    begin = int(sizes[: span.start].sum())
    return slice(begin, begin + int(sizes[span].sum()))
