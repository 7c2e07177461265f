"""A run's journal: JSON lines that are only appended to. It is the truth, and MLflow is made from it.

Non-finite numbers are written as Python's JSON writes them (NaN, Infinity), so that they are read back as floats. Each
line ends with the CRC-32 of what is before it: with a flipped bit inside a number it is damaged, not another number.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.domain.redaction import redact
from sweep.tracking.events import Events, milliseconds

FILE = "journal.jsonl"
DURABLE = {"attempt", "outcome"}
"""Events that are on the disk before `write` returns. Others may wait for SYNC_S: the store has the scores too."""
SYNC_S = 1.0
"""Seconds between two fsyncs of the other events, more on a slow disk; a power cut may cost what came since."""
SHARE = 0.005
"""The part of the time that those fsyncs may take."""
BLOCK_BYTES = 1 << 18
"""Read at once when a journal is read from its end; an outcome with 500 scores takes about 50 kB."""

CRC_BYTES = len(',"crc":"01234567"}')


class Journal:
    """The journal of the run in `folder`, open to append; the run's lease keeps it to one process at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._fd, _whole_bytes(self.path))
        _sync_folder(folder)
        self._due = time.monotonic() + SYNC_S
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, with secrets in URIs masked; raises OSError if the disk does not take the whole line."""
        text = json.dumps({"event": event, "time": time.time(), **fields}, separators=(",", ":"), default=os.fspath)
        line = _sealed(redact(text).encode()) + b"\n"
        with self._lock:
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
    """The journal of a run. Without `steps`, step and system events are skipped, which is many times faster."""
    lines = enumerate(_lines((folder / FILE).read_bytes()), 1)
    parsed = {n: _parse(line) for n, line in lines if steps or not (_is(line, "step") or _is(line, "system"))}
    events = [event for event in parsed.values() if event is not None]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        kinds[event["event"]].append(event)
    updates, redone = _updates(kinds["step"])
    scored, rescored = _scores(kinds["scores"])
    last_outcome, earlier_outcomes = _outcomes([event for event in events if event["event"] in DURABLE])
    return Events(
        attempts=tuple(kinds["attempt"]),
        steps=updates,
        redone=redone,
        scores={when: event["scores"] for when, event in scored.items()},
        artifacts={event["name"]: event["path"] for event in kinds["artifact"]},
        outcome=last_outcome,
        damaged=tuple(number for number, event in parsed.items() if event is None),
        inputs=next(reversed(kinds["inputs"]), None),
        system=tuple(kinds["system"]),
        scored_ms={when: milliseconds(event) for when, event in scored.items()},
        superseded=(*earlier_outcomes, *rescored),
    )


def outcome(folder: Path) -> dict[str, Any] | None:
    """The outcome event of the run's last attempt; None if it has none yet, or there is no journal."""
    try:
        for line in _pieces_from_end(folder / FILE):
            if (_is(line, "outcome") or _is(line, "attempt")) and (event := _parse(line)) is not None:
                return event if event["event"] == "outcome" else None
    except FileNotFoundError:
        pass
    return None


def last_update(folder: Path) -> int | None:
    """The last update that a run's journal tells of; None if it tells of none, or there is no journal."""
    try:
        for line in _pieces_from_end(folder / FILE):
            if _is(line, "step") and (event := _parse(line)) is not None:
                return int(event["update"])
    except FileNotFoundError:
        pass
    return None


def has_ended(folder: Path) -> bool:
    """Whether the journal's last whole line is an outcome: the last attempt has ended."""
    pieces = _pieces_from_end(folder / FILE)
    next(pieces)
    return _is(next(pieces, b""), "outcome")


def _updates(events: list[dict[str, Any]]) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...]]:
    """One step event for each update, ascending, the last one written; and the earlier ones of the same updates."""
    updates: dict[int, dict[str, Any]] = {}
    redone = []
    for event in events:
        redone += [updates[event["update"]]] if event["update"] in updates else []
        updates[event["update"]] = event
    return tuple(updates[update] for update in sorted(updates)), tuple(redone)


def _scores(events: list[dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """ "before", "after" and "delta" -> the event that first had the scores that hold now; and events that differ."""
    scored: dict[str, dict[str, Any]] = {}
    superseded = []
    for event in events:
        known = scored.setdefault(event["when"], event)
        if known["scores"] != event["scores"]:
            superseded.append(known)
            scored[event["when"]] = event
    return scored, superseded


def _outcomes(events: list[dict[str, Any]]) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Of attempts and outcomes in order: the last attempt's outcome, None if it has none; and those of earlier ones."""
    earlier = [event for event, following in pairwise(events) if following["event"] == "attempt"]
    last = events[-1] if events and events[-1]["event"] == "outcome" else None
    return last, [event for event in earlier if event["event"] == "outcome"]


def _is(line: bytes, event: str) -> bool:
    """Whether the line holds such an event, told from its beginning as `write` makes it."""
    return line.startswith(f'{{"event":"{event}"'.encode())


def _lines(data: bytes) -> list[bytes]:
    """The whole lines; what follows the last newline is still being written, or was cut off."""
    return data.split(b"\n")[:-1]


def _sealed(line: bytes) -> bytes:
    """The line of an event with its checksum as the last field."""
    return b'%s,"crc":"%08x"}' % (line[:-1], zlib.crc32(line[:-1]))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event; None if the line is not what was written."""
    body = line[:-CRC_BYTES]
    if line[len(body) :].startswith(b',"crc":"') and line != _sealed(body + b"}"):
        return None
    return _event(line)


def _event(line: bytes) -> dict[str, Any] | None:
    """The event, whether or not its checksum is right; None if the line is none."""
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            event.pop("crc", None)
            return event
    return None


def _whole_bytes(path: Path) -> int:
    """Length of the journal without a torn end: bytes after the last newline, or a last line that is no event."""
    pieces = _pieces_from_end(path)
    whole = path.stat().st_size - len(next(pieces))
    last = next(pieces, None)
    return whole if last is None or _event(last) is not None else whole - len(last) - 1


def _pieces_from_end(path: Path) -> Iterator[bytes]:
    """The file cut at its newlines, the last piece first: what follows the last newline, then whole lines."""
    with path.open("rb") as f:
        position, rest = f.seek(0, os.SEEK_END), b""
        while position > 0:
            size = min(BLOCK_BYTES, position)
            position = f.seek(position - size)
            rest, *pieces = (f.read(size) + rest).split(b"\n")
            yield from reversed(pieces)
        yield rest


def _sync_folder(folder: Path) -> None:
    """Make a new file survive a power cut: its folder must be on the disk too."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
