"""A run's journal: sealed JSON lines that are only appended to. It is the truth, and MLflow is made from it."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

from sweep.domain.redaction import redact
from sweep.planning.measures import with_bits_means
from sweep.system.files import fsync, set_aside
from sweep.system.sealed import is_sound, opened, pieces_from_end, sealed, whole_bytes, whole_lines
from sweep.tracking.events import Events, milliseconds

log = logging.getLogger(__name__)

FILE = "journal.jsonl"
DURABLE = {"attempt", "outcome"}
"""Events that are on the disk before `write` returns. Others may wait for SYNC_S: the store has the scores too."""
SYNC_S = 1.0
"""Seconds between two fsyncs of the other events, more on a slow disk; a power cut may cost what came since."""
SHARE = 0.005
"""The part of the time that those fsyncs may take."""
WHENS = ("before", "after", "delta")


class Journal:
    """The journal of the run in `folder`, open to append; the run's lease keeps it to one process at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        if self.path.is_dir():
            log.warning("%s is a folder where a file belongs: set aside as %s", self.path, set_aside(self.path))
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.ftruncate(self._fd, whole_bytes(self.path))
        fsync(folder)
        self._due = time.monotonic() + SYNC_S
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Append one event, with secrets in URIs masked; raises OSError if the disk does not take the whole line."""
        text = json.dumps({"event": event, "time": time.time(), **fields}, separators=(",", ":"), default=os.fspath)
        line = sealed(redact(text)) + b"\n"
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
    """The journal of a run. Without `steps`, step and system events are skipped, which is many times faster.

    Scores whose line is damaged are taken from the outcome. A mean that an older journal lacks is made from its scores.
    """
    lines = _lines(folder)
    parsed = {n: _parse(line) for n, line in enumerate(lines, 1) if steps or not _is_frequent(line)}
    damaged = tuple(number for number, event in parsed.items() if event is None)
    events = [event for event in parsed.values() if event is not None]
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        kinds[event["event"]].append(event)
    updates, redone = _updates(kinds["step"])
    decisive = [
        {"event": "damaged"} if event is None else event
        for number, event in parsed.items()
        if (event is None and not _is_frequent(lines[number - 1])) or (event is not None and event["event"] in DURABLE)
    ]
    last_outcome, earlier_outcomes = _outcomes(decisive)
    scored, rescored = _scores([*kinds["scores"], *(_scores_of(last_outcome) if damaged else ())])
    params: dict[str, Any] = next(
        (attempt["params"] for attempt in reversed(kinds["attempt"]) if "params" in attempt), {}
    )
    return Events(
        attempts=tuple(kinds["attempt"]),
        steps=updates,
        redone=redone,
        scores={when: with_bits_means(event["scores"], params) for when, event in scored.items()},
        artifacts={event["name"]: event["path"] for event in kinds["artifact"]},
        outcome=last_outcome,
        damaged=damaged,
        lost=_lost(parsed, damaged, last_outcome),
        inputs=next(reversed(kinds["inputs"]), None),
        system=tuple(kinds["system"]),
        scored_ms={when: milliseconds(event) for when, event in scored.items()},
        superseded=(*earlier_outcomes, *rescored),
    )


def outcome(folder: Path) -> dict[str, Any] | None:
    """The outcome event of the run's last attempt; None if it has none yet, or there is no journal.

    If a damaged line follows it, which may have begun another attempt, there is none.
    """
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        for line in _from_end(folder):
            if _is_frequent(line):
                continue
            event = _parse(line)
            if event is None or event["event"] in DURABLE:
                return event if event is not None and event["event"] == "outcome" else None
    return None


def last_update(folder: Path) -> int | None:
    """The last update that a run's journal tells of; None if it tells of none, or there is no journal."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        for line in _from_end(folder):
            if _is(line, "step") and (event := _parse(line)) is not None:
                return int(event["update"])
    return None


def last_records(folder: Path) -> dict[str, str]:
    """Name -> path of the files that were recorded just before the outcome at the journal's end."""
    paths: dict[str, str] = {}
    for line in _from_end(folder):
        event = _parse(line)
        if event is not None and event["event"] == "artifact":
            paths.setdefault(event["name"], event["path"])
        elif paths:
            break
    return paths


def last_attempt(folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The attempt event of the run's last start, and the outcome of that start; None: there is none yet."""
    end: dict[str, Any] | None = None
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        for line in _from_end(folder):
            if _is_frequent(line) or (event := _parse(line)) is None:
                continue
            if event["event"] == "attempt":
                return event, end
            if event["event"] == "outcome":
                end = end or event
    return None, end


def has_ended(folder: Path) -> bool:
    """Whether the last attempt has ended: an outcome is the journal's last whole line but for samples of the load."""
    return _is(next((line for line in _from_end(folder) if not _is(line, "system")), b""), "outcome")


def damage(folder: Path) -> tuple[int, ...]:
    """Numbers, from 1, of the damaged lines of the last attempt; much faster than `read`."""
    lines = _lines(folder)
    attempts = [n for n, line in enumerate(lines, 1) if _is(line, "attempt") and is_sound(line)]
    start = max(attempts, default=0)
    return tuple(n for n, line in enumerate(lines[start:], start + 1) if not is_sound(line))


def _lost(
    parsed: dict[int, dict[str, Any] | None], damaged: tuple[int, ...], last_outcome: dict[str, Any] | None
) -> tuple[int, ...]:
    """The damaged lines whose content no later attempt has written again."""
    if last_outcome is None or last_outcome["status"] != "finished":
        return damaged
    start = max((n for n, event in parsed.items() if event is not None and event["event"] == "attempt"), default=0)
    return tuple(number for number in damaged if number > start)


def _scores_of(last_outcome: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The scores in the result of a finished run as events, the way `scores` events have them."""
    if last_outcome is not None and (result := last_outcome["result"]) is not None:
        for when in WHENS:
            if result.get(when):
                yield {"event": "scores", "time": last_outcome["time"], "when": when, "scores": result[when]}


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
    """Of attempts, outcomes and damaged lines in order: the outcome, if it is the last; and the earlier ones."""
    earlier = [event for event, following in pairwise(events) if following["event"] != "outcome"]
    last = events[-1] if events and events[-1]["event"] == "outcome" else None
    return last, [event for event in earlier if event["event"] == "outcome"]


def _is(line: bytes, event: str) -> bool:
    """Whether the line holds such an event, told from its beginning as `write` makes it."""
    return line.startswith(f'{{"event":"{event}"'.encode())


def _is_frequent(line: bytes) -> bool:
    """Whether it is a line of the many that no decision needs: of an update, or of the machine's load."""
    return _is(line, "step") or _is(line, "system")


def _parse(line: bytes) -> dict[str, Any] | None:
    """The event; None if the line is not what was written."""
    event = opened(line)
    return event if event is not None and isinstance(event.get("event"), str) else None


def _lines(folder: Path) -> list[bytes]:
    """The whole lines of a journal; none if a folder is in its place."""
    try:
        return whole_lines(folder / FILE)
    except IsADirectoryError:
        return []


def _from_end(folder: Path) -> Iterator[bytes]:
    """The whole lines of a journal, the last one first."""
    pieces = pieces_from_end(folder / FILE)
    next(pieces)
    return pieces
