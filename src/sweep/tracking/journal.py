"""A run's journal: append-only JSON lines in its own folder, the truth that every tracker is rebuilt from.

Non-finite numbers are written as Python's JSON writes them (NaN, Infinity), so that they read back as floats. A line
ends in the CRC-32 of what is before it, so that a flipped bit inside a number is damage too and not another number.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.tracking.events import Events, milliseconds
from sweep.tracking.redaction import redact

FILE = "journal.jsonl"
DURABLE = {"attempt", "outcome"}
"""Events that are on the disk before `write` returns; scores of a second before are in the store too."""
SYNC_S = 1.0
"""Seconds between two fsyncs of the other events: what a power cut may cost, and more where the disk is slow."""
SHARE = 0.005
"""Of the time, what those fsyncs may take."""
TAIL_BYTES = 1 << 18
"""How far from the end an outcome is looked for first; one with 500 scores takes about 50 kB."""

CRC_BYTES = len(',"crc":"01234567"}')


class Journal:
    """The journal of the run in `folder`, open to append; one process at a time (the run's lease sees to that)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(self._fd, _whole_bytes(self.path))
        _sync_folder(folder)
        self._due = time.monotonic() + SYNC_S
        self._one = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, secrets inside URIs masked; OSError where the disk doesn't take the whole line."""
        text = json.dumps({"event": event, "time": time.time(), **fields}, separators=(",", ":"), default=os.fspath)
        line = _sealed(redact(text).encode()) + b"\n"
        with self._one:
            end = os.fstat(self._fd).st_size
            if os.write(self._fd, line) != len(line):
                os.ftruncate(self._fd, end)
                raise OSError(errno.ENOSPC, "the journal can't be written whole", str(self.path))
            now = time.monotonic()
            if event in DURABLE or now >= self._due:
                os.fsync(self._fd)
                self._due = now + max(SYNC_S, (time.monotonic() - now) / SHARE)

    def close(self) -> None:
        """Put everything on the disk and close; twice is fine."""
        if self._fd >= 0:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read(folder: Path, *, steps: bool = True) -> Events:
    """The journal of a run; without `steps` its step events are skipped unread, and what is left reads in no time."""
    attempts: list[dict[str, Any]] = []
    updates: dict[int, dict[str, Any]] = {}
    redone: list[dict[str, Any]] = []
    artifacts: dict[str, str] = {}
    last: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    system: list[dict[str, Any]] = []
    scored: dict[str, dict[str, Any]] = {}
    superseded: list[dict[str, Any]] = []
    damaged: list[int] = []
    for number, line in enumerate(_lines((folder / FILE).read_bytes()), 1):
        if not steps and (_is(line, "step") or _is(line, "system")):
            continue
        event = _parse(line)
        if event is None:
            damaged.append(number)
            continue
        match event:
            case {"event": "attempt"}:
                attempts.append(event)
                superseded += [last] if last is not None else []
                last = None
            case {"event": "step", "update": int(update)}:
                redone += [updates[update]] if update in updates else []
                updates[update] = event
            case {"event": "scores", "when": str(when), "scores": list(found)}:
                if when in scored and scored[when]["scores"] != found:
                    superseded.append(scored.pop(when))
                scored.setdefault(when, event)
            case {"event": "artifact", "name": str(name), "path": str(path)}:
                artifacts[name] = path
            case {"event": "outcome"}:
                last = event
            case {"event": "inputs"}:
                inputs = event
            case {"event": "system", "values": dict()}:
                system.append(event)
    return Events(
        tuple(attempts),
        tuple(updates[update] for update in sorted(updates)),
        tuple(redone),
        {when: event["scores"] for when, event in scored.items()},
        artifacts,
        last,
        tuple(damaged),
        inputs,
        tuple(system),
        {when: milliseconds(event) for when, event in scored.items()},
        tuple(superseded),
    )


def outcome(folder: Path) -> dict[str, Any] | None:
    """The outcome event of the run's last attempt; None where it has none yet, or there is no journal."""
    try:
        with (folder / FILE).open("rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(max(0, size - TAIL_BYTES))
            found = _last_word(_lines(f.read()))
            if found is None and size > TAIL_BYTES:
                f.seek(0)
                found = _last_word(_lines(f.read()))
    except FileNotFoundError:
        return None
    return found if found is not None and found["event"] == "outcome" else None


def has_ended(folder: Path) -> bool:
    """Whether the journal's last whole line is an outcome: the last attempt has ended."""
    tail = b""
    for block in _blocks_from_end(folder / FILE):
        tail = block + tail
        if tail.count(b"\n") >= 2:
            break
    return _is(b"\n".join(_lines(tail)[-1:]), "outcome")


def _last_word(lines: list[bytes]) -> dict[str, Any] | None:
    """The last outcome or attempt event among the lines; None: there is neither."""
    wanted = (line for line in reversed(lines) if _is(line, "outcome") or _is(line, "attempt"))
    return next((event for event in map(_parse, wanted) if event is not None), None)


def _is(line: bytes, event: str) -> bool:
    """Whether `write` made this line for such an event, without reading it."""
    return line.startswith(f'{{"event":"{event}"'.encode())


def _lines(data: bytes) -> list[bytes]:
    """The whole lines; what follows the last newline is still being written, or torn."""
    return data.split(b"\n")[:-1]


def _sealed(line: bytes) -> bytes:
    """The line of an event with its check sum as the last field."""
    return b'%s,"crc":"%08x"}' % (line[:-1], zlib.crc32(line[:-1]))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event; None where the line is no whole one, or not what was written."""
    body = line[:-CRC_BYTES]
    if line[len(body) :].startswith(b',"crc":"') and line != _sealed(body + b"}"):
        return None
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            event.pop("crc", None)
            return event
    return None


def _whole_bytes(path: Path) -> int:
    """Length of the journal without a torn tail: bytes after the last newline, or a last line that isn't an event."""
    end, blocks = path.stat().st_size, _blocks_from_end(path)
    tail = b""
    for block in blocks:
        tail = block + tail
        if tail.count(b"\n") >= 2:
            break
    whole = tail.rfind(b"\n") + 1
    start = tail.rfind(b"\n", 0, whole - 1) + 1 if whole else 0
    kept = whole if whole and _parse(tail[start:whole]) is not None else start
    return end - len(tail) + kept


def _blocks_from_end(path: Path) -> Iterator[bytes]:
    with path.open("rb") as f:
        at = f.seek(0, os.SEEK_END)
        while at > 0:
            size = min(TAIL_BYTES, at)
            at -= size
            f.seek(at)
            yield f.read(size)


def _sync_folder(folder: Path) -> None:
    """A new file is only there after a power cut when its folder was synced too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
