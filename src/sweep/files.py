"""The files that a choice names on this machine, and what tells their content apart without reading it."""

from __future__ import annotations

import glob
from pathlib import Path


def expanded(path: str) -> list[str]:
    """The files that a pattern matches, sorted; a path without `*`, `?` or `[`, or an address, as it is."""
    if "://" in path or not glob.has_magic(path):
        return [path]
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (the pattern may be absolute)


def version(file: Path) -> tuple[int, int]:
    """Size, and time of change in ns."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns
