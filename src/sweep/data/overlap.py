"""Whether texts share content: runs of words in common, found by hashing every run. Pure.

A word is a run of ASCII letters and digits, in lower case; nothing else of a text counts.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

_KEPT = bytes(byte if chr(byte).isalnum() and byte < 128 else 32 for byte in range(256))
"""A byte's stand-in: itself, or a space."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd 64-bit base of the rolling hash (golden ratio)."""

_UNKNOWN = 2**63
"""Stands for every word that no indexed text has."""


def words_of(text: str) -> list[bytes]:
    """The words of a text, in order."""
    return text.lower().encode().translate(_KEPT).split()


def normalised(text: str) -> str:
    """The words of a text with single spaces."""
    return b" ".join(words_of(text)).decode()


class Words(NamedTuple):
    """Texts as word numbers, end to end; numbers compare only within one `Numbering`."""

    numbers: np.ndarray
    """uint64 (words,)."""
    lengths: np.ndarray
    """int64 (texts,): words of each text."""


class Numbering:
    """Gives each word a number, the same one every time."""

    def __init__(self) -> None:
        self._numbers: defaultdict[bytes, int] = defaultdict(itertools.count().__next__)

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return iter(self._numbers.items())

    def words(self, texts: Iterable[str]) -> Words:
        """The texts as word numbers."""
        numbers: list[int] = []
        lengths: list[int] = []
        for text in texts:
            found = words_of(text)
            numbers.extend(map(self._numbers.__getitem__, found))
            lengths.append(len(found))
        return Words(np.array(numbers, dtype=np.uint64), np.array(lengths, dtype=np.int64))


def sharing(texts: Words, others: Words, *, run: int) -> np.ndarray:
    """Whether each of `texts` has `run` words in a row that one of `others` has: bool (texts,)."""
    theirs, _ = _runs(others, run)
    mine, owners = _runs(texts, run)
    shares = np.zeros(len(texts.lengths), dtype=bool)
    maybe = _in_table(mine, theirs)
    mine, owners = mine[maybe], owners[maybe]
    shares[owners[np.isin(mine, theirs[_in_table(theirs, mine)])]] = True
    return shares


def containing(texts: Words, wholes: Words, *, lengths: range) -> np.ndarray:
    """Whether each of `texts` has one of `wholes`, of as many words as `lengths` allows, whole: bool (texts,)."""
    contains = np.zeros(len(texts.lengths), dtype=bool)
    for length in lengths:
        contains |= sharing(texts, _of_length(wholes, length), run=length)
    return contains


class Index:
    """Runs of words of some texts, to look others up in; what it holds doesn't grow with these."""

    def __init__(self, texts: Iterable[str], wholes: Iterable[str], *, run: int, shortest: int) -> None:
        """`run` words in a row of `texts` count, and each of `wholes` that has from `shortest` words to below that."""
        numbering = Numbering()
        words, others = numbering.words(texts), numbering.words(wholes)
        self._numbers = dict(numbering)
        self._hashes = {run: np.unique(_runs(words, run)[0])}
        for length in range(shortest, run):
            self._hashes[length] = np.unique(_runs(_of_length(others, length), length)[0])

    def found_in(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each text holds one of the runs: bool (texts,)."""
        found = [words_of(text) for text in texts]
        numbers = [self._numbers.get(word, _UNKNOWN) for words in found for word in words]
        words = Words(np.array(numbers, dtype=np.uint64), np.array([len(words) for words in found], dtype=np.int64))
        holds = np.zeros(len(texts), dtype=bool)
        for run, known in self._hashes.items():
            mine, owners = _runs(words, run)
            if len(known):
                at = np.searchsorted(known, mine).clip(max=len(known) - 1)
                holds[owners[known[at] == mine]] = True
        return holds


def _of_length(texts: Words, length: int) -> Words:
    """The texts of so many words."""
    fits = texts.lengths == length
    return Words(texts.numbers[np.repeat(fits, texts.lengths)], texts.lengths[fits])


def _in_table(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each hash may be one of `others`: no is certain; it spares `np.isin` most of its sorting."""
    slots = np.uint64(2**26 - 1)
    table = np.zeros(2**26, dtype=bool)
    table[others & slots] = True
    return table[hashes & slots]


def _runs(texts: Words, run: int) -> tuple[np.ndarray, np.ndarray]:
    """A 64-bit hash of every run inside one text, and the number of that text."""
    count = len(texts.numbers) - run + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
    mixed = _mixed(texts.numbers)
    hashes = np.zeros(count, dtype=np.uint64)
    for start in range(run):
        hashes = hashes * _BASE + mixed[start : start + count]
    owners = np.repeat(np.arange(len(texts.lengths)), texts.lengths)
    inside = owners[:count] == owners[run - 1 :]
    return hashes[inside], owners[:count][inside]


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers spread over 64 bits (the finaliser of splitmix64), so that small ones don't cancel in a sum."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) + _BASE
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
