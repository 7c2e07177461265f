"""Examines the tokens of an anneal before anything is computed: ids that the model has, in the data type it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.data.memmap import Instances

BLOCK_BYTES = 1 << 26
"""Of the tokens that are examined together."""
SAMPLED = 64
"""Instances of remote files that are examined before all of them are fetched; a wrong data type is seen in each."""
FEWEST = 64
"""Of a file with fewer tokens the zeros say nothing."""
ALTERNATING, OTHER, EMPTY = 0.8, 0.6, 0.9
"""Shares of zeros. Ids of 32 bits read as 16: every second is below 2, mostly 0, while of the others few are. Real text
has hardly any. From the last share on, at all places, a file is not text but empty space."""
WIDER = {"uint8": "uint16", "uint16": "uint32", "uint32": "uint64"}


@dataclass(frozen=True)
class Fault:
    """Why tokens can't be trained on."""

    file: int
    """The file's number among those of the instances."""
    words: str
    """One line that names file and place."""


def first_fault(instances: Instances, indices: np.ndarray, *, vocab_size: int) -> Fault | None:
    """The first fault in the instances `indices` (N,), each read once in the order of the files; None if there is none.

    OSError if a file can't be read.
    """
    rows = np.unique(indices)
    each = max(1, BLOCK_BYTES // (instances.sequence_length * instances.dtype.itemsize))
    zeros = np.zeros((len(instances.files), 2), dtype=np.int64)
    counts = np.zeros(len(instances.files), dtype=np.int64)
    high: Fault | None = None
    for first in range(0, len(rows), each):
        block = rows[first : first + each]
        tokens = np.empty((len(block), instances.sequence_length), dtype=instances.dtype)
        instances.read_into(tokens, block)
        high = high or unknown_id(instances, block, tokens, vocab_size=vocab_size)
        owners, offsets = instances.places(block)
        for parity in (0, 1):  # of the token's place in its file
            at = np.where((offsets + parity) % 2, (tokens[:, 1::2] == 0).sum(1), (tokens[:, ::2] == 0).sum(1))
            np.add.at(zeros[:, parity], owners, at)
        np.add.at(counts, owners, instances.sequence_length)
        if high is not None:
            break  # the zeros so far say whether it is the data type
    return _mostly_zero(instances, zeros, counts) or high


def counts_of(instances: Instances, indices: np.ndarray, token_ids: Sequence[int]) -> dict[int, int]:
    """How often each of some tokens stands in a sample of the instances `indices` (N,)."""
    rows = np.unique(indices)
    tokens = instances.read(rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLED).astype(int))])
    return {token: int((tokens == token).sum()) for token in token_ids}


def unknown_id(instances: Instances, indices: np.ndarray, tokens: np.ndarray, *, vocab_size: int) -> Fault | None:
    """The first of the `tokens` (N, T) of the instances `indices` (N,) that the model does not have."""
    if not tokens.size or int(tokens.max()) < vocab_size:
        return None
    row, column = np.argwhere(tokens >= vocab_size)[0]
    owners, offsets = instances.places(np.asarray(indices)[row : row + 1])
    place = int(offsets[0] + column)
    return Fault(
        int(owners[0]),
        f"{instances.name(int(owners[0]))} holds token id {tokens[row, column]} at token {place} (byte "
        f"{place * instances.dtype.itemsize}), and the model has {vocab_size}: the data were made by another "
        f"tokenizer, or data.dtype is not {instances.dtype}",
    )


def _mostly_zero(instances: Instances, zeros: np.ndarray, counts: np.ndarray) -> Fault | None:
    shares = zeros / np.maximum(counts[:, None] / 2, 1)
    dtype = str(instances.dtype)
    for number in np.flatnonzero(counts >= FEWEST):
        most, least, name = shares[number].max(), shares[number].min(), instances.name(int(number))
        if least >= EMPTY:
            return Fault(int(number), f"{name}: {least:.0%} of its tokens are 0: it is empty space, and no text")
        if most >= ALTERNATING and least <= OTHER and dtype in WIDER:
            return Fault(
                int(number),
                f"{name}: every second token is 0 (of these {most:.0%}, of the others {least:.0%}), as of "
                f"{WIDER[dtype]} read as {dtype}: give data.dtype={WIDER[dtype]}",
            )
    return None
