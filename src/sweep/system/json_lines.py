"""Reads lines of text and of JSON from plain and gzipped files; what is broken is named by file and line."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def opened(path: Path, raw: Any) -> Any:
    """The content of a binary file that is open as `raw`, decompressed if its name ends in .gz."""
    return gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw


def numbered_lines(path: Path, file: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file, counted from 1; ValueError with the line after which a compressed file is cut."""
    number, lines = 0, iter(file)
    while True:
        with unzipping(f"{path}, after line {number}"):
            line = next(lines, None)
        if line is None:
            return
        number += 1
        yield number, line


@contextlib.contextmanager
def unzipping(place: str) -> Iterator[None]:
    """Errors of gzip within the block as a ValueError that names the place."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{place}: the gzip file is cut or damaged ({type(error).__name__}: {error})") from error


def parsed(path: Path, number: int, line: bytes) -> Any:
    """The JSON value of a line; ValueError naming file and line."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number} is not JSON: {error}") from None


def check_json_lines(path: Path) -> None:
    """Raises ValueError at the first line that isn't JSON; OSError if the file can't be read."""
    with path.open("rb") as raw:
        for number, line in numbered_lines(path, opened(path, raw)):
            if line.strip():
                parsed(path, number, line)
