"""Held-out documents on disk: their token ids end to end without eos, the start of each, and the size of its text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sweep.data.tokenizer import encoded

TOKENS, OFFSETS, BYTES, CHARACTERS = (f"heldout{part}.npy" for part in ("", "_offsets", "_bytes", "_characters"))


class Heldout(NamedTuple):
    """D documents of T tokens together."""

    tokens: np.ndarray
    """(T,) uint16, without eos."""
    offsets: np.ndarray
    """(D + 1,) int64 into the tokens."""
    bytes: np.ndarray
    """(D,) int64: UTF-8 bytes of each text."""
    characters: np.ndarray
    """(D,) int64."""


def write_heldout(folder: Path, texts: Sequence[str], tokenizer: Tokenizer) -> int:
    """Write the held-out documents into `folder`; returns the number of their tokens."""
    documents = list(chain.from_iterable(ids for _, ids in encoded(tokenizer, texts)))
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    np.fromiter(chain.from_iterable(documents), dtype=np.uint16).tofile(folder / TOKENS)
    np.save(folder / OFFSETS, offsets)
    np.save(folder / BYTES, np.array([len(text.encode()) for text in texts], dtype=np.int64))
    np.save(folder / CHARACTERS, np.array([len(text) for text in texts], dtype=np.int64))
    return int(offsets[-1])


def read_heldout(folder: Path) -> Heldout:
    """The documents that `write_heldout` wrote; ValueError, naming the file, if one is missing, cut, or contradicts."""
    offsets, num_bytes, characters = (_numbers(folder / name) for name in (OFFSETS, BYTES, CHARACTERS))
    size = (folder / TOKENS).stat().st_size
    if size % 2:
        raise ValueError(f"{folder / TOKENS} has {size} bytes, which are no whole number of uint16 tokens")
    tokens = np.fromfile(folder / TOKENS, dtype=np.uint16)
    if not len(offsets) - 1 == len(num_bytes) == len(characters) or offsets[-1] != len(tokens):
        raise ValueError(
            f"{folder}: {len(offsets)} offsets up to {offsets[-1] if len(offsets) else None} do not fit "
            f"{len(num_bytes)} documents of {len(tokens)} tokens"
        )
    if offsets[0] != 0 or (np.diff(offsets) < 1).any():
        raise ValueError(f"{folder / OFFSETS}: the offsets must begin at 0, and each document must have a token")
    for name, of_documents in ((BYTES, num_bytes), (CHARACTERS, characters)):
        if (of_documents < 1).any():
            raise ValueError(f"{folder / name}: document {int(np.argmax(of_documents < 1))} has no text")
    return Heldout(tokens, offsets, num_bytes, characters)


def _numbers(file: Path) -> np.ndarray:
    """An array of whole numbers, (n,); ValueError if the file is something else."""
    try:
        found = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is cut, or not written by numpy.save: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(f"{file} is not a list of whole numbers")
    return found
