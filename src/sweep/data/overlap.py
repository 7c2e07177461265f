"""Whether texts share content: runs of words in common, found by hashing every run. Pure.

A word is a run of ASCII letters and digits, in lower case; nothing else of a text counts.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

_KEPT = bytes(byte if chr(byte).isalnum() and byte < 128 else 32 for byte in range(256))
"""What each byte is replaced with: itself, or a space."""
_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd 64-bit base of the rolling hash (golden ratio)."""
_UNKNOWN = 2**63
"""The number of every word that no indexed text has."""


def words_of(text: str) -> list[bytes]:
    """The words of a text, in order."""
    return text.lower().encode().translate(_KEPT).split()


def normalised(text: str) -> str:
    """The words of a text with single spaces."""
    return b" ".join(words_of(text)).decode()


class Index:
    """Runs of words of some texts, in which other texts are looked up; its size does not depend on these."""

    def __init__(self, texts: Iterable[str], wholes: Iterable[str], *, run: int, shortest: int) -> None:
        """Index `run` words in a row of `texts`, and each of `wholes` that has `shortest` to `run` - 1 words."""
        numbers: defaultdict[bytes, int] = defaultdict(itertools.count().__next__)
        words, others = _numbered(texts, numbers), _numbered(wholes, numbers)
        self._numbers = dict(numbers)
        self._runs = {run: np.unique(_hashes(words, run)[0])}
        self._wholes = {
            length: np.unique(_hashes(_of_length(others, length), length)[0]) for length in range(shortest, run)
        }

    def found_in(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each text has an indexed run or whole: bool (texts,)."""
        has_run, has_whole = self.lookup(texts)
        return has_run | has_whole

    def lookup(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Whether each text has an indexed run, and whether it has an indexed whole: two times bool (texts,)."""
        words = _numbered(texts, _OrUnknown(self._numbers))
        return _has(words, self._runs), _has(words, self._wholes)


class Shared:
    """Which of some texts share a run of words with others, which are looked at one after another."""

    def __init__(self, texts: Sequence[str], *, run: int, shortest: int) -> None:
        """`run` words in a row count, and the whole of a text that has `shortest` to `run` - 1 words."""
        numbers: defaultdict[bytes, int] = defaultdict(itertools.count().__next__)
        words = _numbered(texts, numbers)
        self._numbers = dict(numbers)
        self._known = {run: _hashes(words, run)}
        for length in range(shortest, run):
            whole, owners = _hashes(_of_length(words, length), length)
            self._known[length] = whole, np.flatnonzero(words.lengths == length)[owners]
        self.texts = np.zeros(len(texts), dtype=bool)
        """(texts,) whether each shares words with what was looked at so far."""

    def look_at(self, others: Iterable[str]) -> None:
        """Mark the texts that share words with some of `others`."""
        words = _numbered(others, _OrUnknown(self._numbers))
        for length, (known, owners) in self._known.items():
            if len(known):
                self.texts[owners[np.isin(known, _hashes(words, length)[0])]] = True


class _OrUnknown(dict[bytes, int]):
    """Numbers of words, `_UNKNOWN` for words that have none."""

    def __missing__(self, word: bytes) -> int:
        return _UNKNOWN


class _Words(NamedTuple):
    """Texts as numbers of words, end to end."""

    numbers: np.ndarray
    """uint64 (words,)."""
    lengths: np.ndarray
    """int64 (texts,): words of each text."""


def _numbered(texts: Iterable[str], number: Mapping[bytes, int]) -> _Words:
    numbers: list[int] = []
    lengths: list[int] = []
    for text in texts:
        words = words_of(text)
        numbers.extend(map(number.__getitem__, words))
        lengths.append(len(words))
    return _Words(np.array(numbers, dtype=np.uint64), np.array(lengths, dtype=np.int64))


def _of_length(texts: _Words, length: int) -> _Words:
    """The texts of so many words."""
    fits = texts.lengths == length
    return _Words(texts.numbers[np.repeat(fits, texts.lengths)], texts.lengths[fits])


def _has(texts: _Words, indexed: Mapping[int, np.ndarray]) -> np.ndarray:
    """Whether each text has a run of one of the lengths whose hash is among the sorted ones: bool (texts,)."""
    has = np.zeros(len(texts.lengths), dtype=bool)
    for run, known in indexed.items():
        if len(known):
            hashes, owners = _hashes(texts, run)
            maybe = _in_table(hashes, known)
            hashes, owners = hashes[maybe], owners[maybe]
            nearest = np.searchsorted(known, hashes).clip(max=len(known) - 1)
            has[owners[known[nearest] == hashes]] = True
    return has


def _in_table(hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether each hash may be one of `known`: False is certain, so that few are left to search for."""
    slots = np.uint64(2**26 - 1)
    table = np.zeros(2**26, dtype=bool)
    table[known & slots] = True
    return table[hashes & slots]


def _hashes(texts: _Words, run: int) -> tuple[np.ndarray, np.ndarray]:
    """A 64-bit hash of every run inside one text, and the index of that text."""
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
