"""Instances of fixed length in OLMo's memmap files (raw token ids, no header), as in `olmo.data.MemMapDataset`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.data.remote import NPY_MAGIC, RemoteFile, Wanted, fetch

DTYPES = ("uint8", "uint16", "uint32", "uint64")


@dataclass(frozen=True)
class Unused:
    """What the files hold and no instance does, because an instance is not made of two files."""

    files: int
    """Files shorter than one instance."""
    tokens: int
    """Tokens of these files, and the remainders of the others."""


class Instances:
    """The instances of `sequence_length` tokens in several raw memmaps; the remainder of each file is ignored."""

    def __init__(
        self, files: Sequence[Path | RemoteFile], *, sequence_length: int, dtype: str = "uint16", chunk: int = 1
    ) -> None:
        """Of each file whole chunks of instances are taken, one after another.

        Raises FileNotFoundError for an absent file; ValueError for no file, a wrong dtype, a NumPy header, or a size
        that is no whole number of tokens."""
        if dtype not in DTYPES:
            raise ValueError(f"memmap dtype {dtype!r} is unknown; one of {', '.join(DTYPES)}")
        if sequence_length < 1:
            raise ValueError(f"sequence_length is {sequence_length}; it must be at least 1")
        if not files:
            raise ValueError("no memmap file is given; at least one is needed")
        self.files = tuple(files)
        self.sequence_length = sequence_length
        self.dtype = np.dtype(dtype)
        self.sizes = tuple(self._size(file) for file in files)
        self._counts = [size // (self._instance_bytes * chunk) * chunk for size in self.sizes]
        self._ends = np.cumsum(self._counts)
        self._mapped: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def remote(self) -> bool:
        """Whether any of the files is behind a network."""
        return any(isinstance(file, RemoteFile) for file in self.files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Token ids int64 (N, T) of the instances `indices` (N,); IndexError if one is outside [0, len)."""
        tokens = np.empty((len(indices), self.sequence_length), dtype=self.dtype)
        self.read_into(tokens, indices)
        return tokens.astype(np.int64)

    def read_into(
        self, tokens: np.ndarray, indices: np.ndarray, *, progress: Callable[[int], None] = lambda size: None
    ) -> None:
        """Put the instances `indices` (N,) into `tokens` (N, T) of this dtype; `progress` gets bytes read."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            names = ", ".join(map(self.name, range(len(self.files))))
            raise IndexError(f"instances {indices.min()} to {indices.max()} asked of {len(self)} in {names}")
        owner = np.searchsorted(self._ends, indices, side="right")
        wanted: list[Wanted] = []
        for number in np.unique(owner):
            slots = np.flatnonzero(owner == number)
            rows = indices[slots] - (self._ends[number] - self._counts[number])
            file = self.files[number]
            if isinstance(file, RemoteFile):
                wanted.append(Wanted(file, rows, slots))
            else:
                tokens[slots] = self._rows(number, file)[rows]
                progress(len(slots) * self._instance_bytes)
        if wanted:
            fetch(wanted, tokens, progress=progress)

    @property
    def _instance_bytes(self) -> int:
        return self.dtype.itemsize * self.sequence_length

    @property
    def unused(self) -> Unused:
        """The files and tokens that are in no instance."""
        tokens = sum(self.sizes) // self.dtype.itemsize - len(self) * self.sequence_length
        return Unused(files=self._counts.count(0), tokens=tokens)

    def places(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each of the instances: the number of its file, and the offset of its first token in the file."""
        owner = np.searchsorted(self._ends, indices, side="right")
        starts = self._ends - np.asarray(self._counts)
        return owner, (indices.astype(np.int64) - starts[owner]) * self.sequence_length

    def name(self, number: int) -> str:
        """A file's path or address."""
        file = self.files[number]
        return file.url if isinstance(file, RemoteFile) else str(file)

    def _size(self, file: Path | RemoteFile) -> int:
        """Bytes of a file; ValueError if it isn't raw tokens of this dtype."""
        if isinstance(file, RemoteFile):
            size, name = file.size, file.url
        else:
            with file.open("rb") as f:
                if f.read(len(NPY_MAGIC)) == NPY_MAGIC:
                    raise ValueError(
                        f"{file} has a NumPy header; OLMo's memmaps are raw (write them with `array.tofile`)"
                    )
            size, name = file.stat().st_size, str(file)
        if size % self.dtype.itemsize:
            raise ValueError(
                f"{name} has {size} bytes, which are no whole number of {self.dtype} tokens: it is cut, or of "
                "another data.dtype"
            )
        return size

    def _rows(self, number: int, file: Path) -> np.ndarray:
        """The instances of one local file, (n, T), mapped on first use."""
        if number not in self._mapped:
            shape = (self._counts[number], self.sequence_length)
            self._mapped[number] = np.memmap(file, dtype=self.dtype, mode="r", shape=shape)
        return self._mapped[number]
