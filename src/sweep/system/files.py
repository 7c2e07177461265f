"""Files: the ones that a pattern matches, their digests, and durable writing."""

from __future__ import annotations

import glob
import hashlib
import os
import uuid
from pathlib import Path


def expanded(path: str) -> list[str]:
    """The files that a pattern matches, sorted; an address, or a path without `*`, `?` and `[`, as it is."""
    if "://" in path or not glob.has_magic(path):
        return [path]
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (the pattern may be absolute)


def version(file: Path) -> tuple[int, int]:
    """Size in bytes, and time of the last change in ns."""
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_durably(path: Path, text: str) -> None:
    """Replace a file by one with this text: at once, and on disk before this returns."""
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    part.write_text(text)
    fsync(part)
    os.replace(part, path)


def fsync(path: Path) -> None:
    """Put the content of a file, or the list of a folder's files, on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
