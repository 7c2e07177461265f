"""The one form of small files that a later command reads: JSON lines, each of which ends with its checksum.

The checksum is the CRC-32 of what is before it: with a flipped bit inside a number a line is damaged, not another
number. Lines without a checksum, as older versions wrote them, are read too. Non-finite numbers are written as
Python's JSON writes them (NaN, Infinity), so that they are read back as floats.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.system.files import fsync, patiently, read_bytes, write_durably

log = logging.getLogger(__name__)

CRC_BYTES = len(',"crc":"01234567"}')
BLOCK_BYTES = 1 << 18
"""Read at once when a file is read from its end; an outcome with 500 scores takes about 50 kB."""


def sealed(text: str) -> bytes:
    """The line, without its newline, of the JSON of an object with a field at least; the checksum is its last field."""
    return _with_checksum(text.encode())


def opened(line: bytes) -> dict[str, Any] | None:
    """The object of a line, without its checksum; None if the line is not what was written."""
    return None if _is_right(line) is False else parsed(line)


def is_sound(line: bytes) -> bool:
    """Whether a line is what was written; one without a checksum must be an object."""
    right = _is_right(line)
    return parsed(line) is not None if right is None else right


def _is_right(line: bytes) -> bool | None:
    """Whether a line's checksum is that of what is before it; None if it has none."""
    body = line[:-CRC_BYTES]
    return line == _with_checksum(body + b"}") if line[len(body) :].startswith(b',"crc":"') else None


def parsed(line: bytes) -> dict[str, Any] | None:
    """The object of a line, whether or not its checksum is right; None if the line is none."""
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(line)
        if isinstance(fields, dict):
            fields.pop("crc", None)
            return fields
    return None


def write_sealed(path: Path, fields: Mapping[str, Any]) -> None:
    """Replace a file by one line with these fields: at once, and on disk before this returns."""
    write_durably(path, f"{sealed(json.dumps(fields)).decode()}\n")


def read_sealed(path: Path, *, remedy: str) -> dict[str, Any] | None:
    """The fields of a file of one line; None if it is absent, or damaged, which one line in the log says.

    `remedy` says in that line what is done about it. OSError if the file can't be read: that is no damage.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        content = b""
    fields = opened(content.removesuffix(b"\n"))
    if fields is None:
        log.warning("%s is damaged: %s", path, remedy)
    return fields


def append(path: Path, texts: Sequence[str]) -> None:
    """Add a line for each JSON text, on disk before this returns; a torn end is cut first.

    Only one process may do this at a time.
    """
    with path.open("ab") as f:
        f.truncate(whole_bytes(path))
        f.write(b"".join(sealed(text) + b"\n" for text in texts))
        f.flush()
        os.fsync(f.fileno())
    fsync(path.parent)


def whole_lines(path: Path) -> list[bytes]:
    """The lines; what follows the last newline is still being written, or was cut off."""
    return read_bytes(path).split(b"\n")[:-1]


def whole_bytes(path: Path) -> int:
    """Length of a file without a torn end: bytes after the last newline, or a last line that is no object."""
    pieces = pieces_from_end(path)
    whole = path.stat().st_size - len(next(pieces))
    last = next(pieces, None)
    return whole if last is None or parsed(last) is not None else whole - len(last) - 1


def pieces_from_end(path: Path) -> Iterator[bytes]:
    """The file cut at its newlines, the last piece first: what follows the last newline, then whole lines."""
    with patiently(lambda: path.open("rb")) as f:
        position, rest = f.seek(0, os.SEEK_END), b""
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position -= size
            block = patiently(functools.partial(os.pread, f.fileno(), size, position))
            rest, *pieces = (block + rest).split(b"\n")
            yield from reversed(pieces)
        yield rest


def _with_checksum(line: bytes) -> bytes:
    return b'%s,"crc":"%08x"}' % (line[:-1], zlib.crc32(line[:-1]))
