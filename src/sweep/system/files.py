"""Files: the ones that a pattern matches, their digests, patient reading, and durable writing."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sweep.system import stop_signals

log = logging.getLogger(__name__)
T = TypeVar("T")

READ_AGAIN_S = (0.5, 2.0)
"""Waits before something that the file system could not read is read again."""
DAMAGED = ".damaged"
"""Ending of files and folders that were set aside because they are damaged: a person may look at them."""


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


def patiently(read: Callable[[], T]) -> T:
    """The result of `read`, tried again after a passing error of a shared file system.

    The last error is raised. What is absent, or a folder where a file belongs, is no passing error.
    """
    for wait_s in READ_AGAIN_S:
        try:
            return read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise
        except OSError as error:
            log.warning("%s; trying again in %g s", error, wait_s)
            stop_signals.pause(wait_s)
    return read()


def read_bytes(path: Path) -> bytes:
    """The content of a file, read patiently."""
    return patiently(path.read_bytes)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file or folder so that it is absent; its new path, or None if there was none."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}{DAMAGED}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return None
    return aside


def write_durably(path: Path, text: str) -> None:
    """Replace a file by one with this text: at once, and on disk before this returns.

    A folder in its place is set aside.
    """
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        part.write_text(text)
        fsync(part)
        try:
            os.replace(part, path)
        except IsADirectoryError:
            log.warning("%s is a folder where a file belongs: set aside as %s", path, set_aside(path))
            os.replace(part, path)
    except OSError:  # a full disk: nothing of it stays
        part.unlink(missing_ok=True)
        raise


def fsync(path: Path) -> None:
    """Put the content of a file, or the list of a folder's files, on disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
