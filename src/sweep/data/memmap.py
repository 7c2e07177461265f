"""Fixed-length instances of OLMo's memmap files: raw token ids, no header, true to `olmo.data.MemMapDataset`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

DTYPES = ("uint8", "uint16", "uint32", "uint64")
_NPY_MAGIC = b"\x93NUMPY"


class Instances:
    """The instances of `sequence_length` tokens of concatenated raw memmaps; each file's remainder is ignored."""

    def __init__(self, paths: Sequence[Path], *, sequence_length: int, dtype: str = "uint16") -> None:
        """Raises FileNotFoundError for an absent file; ValueError for no file, a wrong dtype, a file with a header."""
        if dtype not in DTYPES:
            raise ValueError(f"memmap dtype {dtype!r} is unknown; one of {', '.join(DTYPES)}")
        if sequence_length < 1:
            raise ValueError(f"sequence_length is {sequence_length}; it must be at least 1")
        if not paths:
            raise ValueError("no memmap file is given; at least one is needed")
        self.paths = tuple(Path(path) for path in paths)
        self.sequence_length = sequence_length
        self._files = [_rows(path, sequence_length, np.dtype(dtype)) for path in self.paths]
        self._ends = np.cumsum([len(rows) for rows in self._files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Token ids int64 (N, T) of the instances `indices` (N,); IndexError where one is outside [0, len)."""
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            names = ", ".join(str(path) for path in self.paths)
            raise IndexError(f"instances {indices.min()} to {indices.max()} asked of {len(self)} in {names}")
        tokens = np.empty((len(indices), self.sequence_length), dtype=np.int64)
        owner = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(owner):
            mine = owner == number
            start = self._ends[number] - len(self._files[number])
            tokens[mine] = self._files[number][indices[mine] - start]
        return tokens


def _rows(path: Path, sequence_length: int, dtype: np.dtype) -> np.ndarray:
    """The whole instances of one file, (n, T), not yet read."""
    with path.open("rb") as f:
        if f.read(len(_NPY_MAGIC)) == _NPY_MAGIC:
            raise ValueError(f"{path} has a NumPy header; OLMo's memmaps are raw (write them with `array.tofile`)")
    count = path.stat().st_size // (dtype.itemsize * sequence_length)
    if count == 0:  # an empty file can't be mapped
        return np.empty((0, sequence_length), dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(count, sequence_length))
