"""Token trees: chains of tokens merged where they begin alike, cut into unbranched segments.

A document's requests share their context, so each distinct beginning is computed once. A segment sees itself, causally,
and the nodes above it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, repeat
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]

FEWEST_SHARED = 64
"""Tokens that neighbouring groups must begin with alike to stand in one tree: examples of a task, not a common word."""
MOST_OWN = 8192
"""Nodes of a tree beyond those of its first group; bounds what a batch, which holds whole trees, takes."""


@dataclass(frozen=True)
class Chain:
    """Tokens of a request; the last `num_scored` of them are predicted, each from the one before it."""

    request: int
    tokens: Int32
    num_scored: int


@dataclass(frozen=True)
class Segment:
    """A run of nodes, each the child of the one before."""

    tokens: Int32
    above: Int32
    """The nodes from the root down to the first one's parent, counted within the tree; empty at the root."""


@dataclass(frozen=True)
class Tree:
    """Segments, the root's first; nodes are counted along them."""

    segments: tuple[Segment, ...]
    targets: tuple[tuple[int, Int32, Int32], ...]
    """For each chain: its request, the nodes that predict, the tokens predicted there."""

    @property
    def size(self) -> int:
        """Number of nodes."""
        return sum(len(segment.tokens) for segment in self.segments)


def grow(chains: Sequence[Chain], groups: Sequence[Hashable]) -> Iterator[Tree]:
    """The trees of all chains; chains of one group, which must stand together, share their common beginnings.

    So do neighbouring groups that begin with the same examples.
    """
    for _, members in groupby(zip(_families(chains, groups), chains, strict=True), key=itemgetter(0)):
        # big-endian bytes sort as the tokens do, so that each chain follows the one it shares most with
        ordered = sorted((chain for _, chain in members), key=lambda chain: chain.tokens.astype(">i4").tobytes())
        for _, family in groupby(ordered, key=lambda chain: int(chain.tokens[0])):
            yield _tree(family)


def _families(chains: Sequence[Chain], groups: Sequence[Hashable]) -> Iterator[int]:
    """For each chain the number of the tree, or trees, that its group goes into."""
    number, own = -1, 0
    first = last = np.empty(0, dtype=np.int32)
    for _, group in groupby(zip(groups, chains, strict=True), key=itemgetter(0)):
        members = [chain.tokens for _, chain in group]
        ends = [last, *members]
        size = sum(len(b) - _common(a, b) for a, b in pairwise(ends))
        if number < 0 or own + size > MOST_OWN or _common(first, members[0]) < FEWEST_SHARED:
            number, own, first = number + 1, 0, members[0]
        else:
            own += size
        last = members[-1]
        yield from repeat(number, len(members))


def _tree(chains: Iterable[Chain]) -> Tree:
    """The tree of chains that begin alike, in lexicographic order."""
    segments: list[Segment] = []
    targets = []
    path = tokens = np.empty(0, dtype=np.int32)
    size = 0
    for chain in chains:
        shared = _common(tokens, chain.tokens[:-1])
        tokens = chain.tokens[:-1]
        if shared < len(tokens):
            segments.append(Segment(tokens[shared:], path[:shared]))
        new = np.arange(size, size + len(tokens) - shared, dtype=np.int32)
        path = np.concatenate((path[:shared], new))
        size += len(new)
        targets.append((chain.request, path[-chain.num_scored :], chain.tokens[-chain.num_scored :]))
    return Tree(_split_root(segments), tuple(targets))


def _split_root(segments: list[Segment]) -> tuple[Segment, ...]:
    """The segments with the first one cut where the next branches off it: what all share, then a branch like others."""
    root = segments[0].tokens
    trunk = min((len(segment.above) for segment in segments[1:]), default=len(root))
    if trunk == len(root):
        return tuple(segments)
    branch = Segment(root[trunk:], np.arange(trunk, dtype=np.int32))
    return Segment(root[:trunk], segments[0].above), branch, *segments[1:]


def _common(a: Int32, b: Int32) -> int:
    """Length of the common beginning."""
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size
