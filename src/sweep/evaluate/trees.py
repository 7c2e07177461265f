"""Token trees: chains of tokens that begin alike are merged, and the tree is cut into segments without branches.

The requests of a document share their context, so that each distinct beginning is computed once. The nodes of a segment
attend to the nodes above it, and causally to each other.
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
"""Neighbouring groups stand in one tree if they share this many tokens at their beginning: few-shot examples do."""
MOST_OWN = 8192
"""The most nodes that a tree has besides those of its first group. It bounds a batch, which holds whole trees."""


@dataclass(frozen=True)
class Chain:
    """The tokens of a request. The last `num_scored` are predicted, each from the tokens before it."""

    request: int
    tokens: Int32
    num_scored: int


@dataclass(frozen=True)
class Segment:
    """Nodes in a row, each the child of the one before it."""

    tokens: Int32
    above: Int32
    """The nodes from the root down to the parent of the first node, counted within the tree; empty at the root."""


@dataclass(frozen=True)
class Tree:
    """Segments, that of the root first. Nodes are counted through all segments."""

    segments: tuple[Segment, ...]
    targets: tuple[tuple[int, Int32, Int32], ...]
    """For each chain: its request, the nodes that predict, and the tokens predicted there."""

    @property
    def size(self) -> int:
        """Number of nodes."""
        return sum(len(segment.tokens) for segment in self.segments)


def windows(request: int, tokens: Int32, num_scored: int, max_length: int) -> Iterator[Chain]:
    """Chains that predict the last `num_scored` tokens, each once: one chain, or as many as `max_length` tokens need.

    The last window reaches back so that it is full; the others begin one token before those they predict.
    """
    done = len(tokens) - num_scored
    while done < len(tokens):
        end = min(done + max_length, len(tokens))
        yield Chain(request, tokens[max(0, end - max_length - 1) : end], end - done)
        done = end


def token_trees(chains: Sequence[Chain], groups: Sequence[Hashable]) -> Iterator[Tree]:
    """The trees of all chains. The chains of one group must be neighbours; they share their common beginnings.

    Neighbouring groups that begin with the same examples share them, too.
    """
    for _, members in groupby(zip(_families(chains, groups), chains, strict=True), key=itemgetter(0)):
        # big-endian bytes sort as the tokens do, so that each chain follows the one it shares most with
        ordered = sorted((chain for _, chain in members), key=lambda chain: chain.tokens.astype(">i4").tobytes())
        for _, family in groupby(ordered, key=lambda chain: int(chain.tokens[0])):
            yield _tree(family)


def _families(chains: Sequence[Chain], groups: Sequence[Hashable]) -> Iterator[int]:
    """For each chain the number of its family: groups that stand in one tree, or in one for each first token."""
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
    """The tree of chains that begin alike. They come in lexicographic order."""
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
    """The segments with the first one cut where another branches off it, so that the root is what all chains share."""
    root = segments[0].tokens
    trunk = min((len(segment.above) for segment in segments[1:]), default=len(root))
    if trunk == len(root):
        return tuple(segments)
    branch = Segment(root[trunk:], np.arange(trunk, dtype=np.int32))
    return Segment(root[:trunk], segments[0].above), branch, *segments[1:]


def _common(a: Int32, b: Int32) -> int:
    """Number of tokens at the beginning that are the same."""
    size = min(len(a), len(b))
    differ = a[:size] != b[:size]
    return int(differ.argmax()) if differ.any() else size
