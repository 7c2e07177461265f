"""A sweep's journals and MLflow: all of them brought up to date, its own run with them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from sweep.system.store import is_alive
from sweep.tracking.brief import brief
from sweep.tracking.checking import differences
from sweep.tracking.connection import LOCK, Connection, own
from sweep.tracking.events import Events
from sweep.tracking.journal import FILE, read
from sweep.tracking.projection import project, project_parent
from sweep.tracking.redaction import SECRETS, redact

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 8
"""Runs under way to a server at a time; a SQLite file takes one."""
TRY_AGAIN_S = (1.0, 4.0)
"""Waits before what failed is tried again."""
GIVEN_UP_AFTER = 8
"""Runs that failed one after another, before the others of their sweep are left for the next time."""


@dataclass(frozen=True)
class Synced:
    """What came of one run folder."""

    folder: Path
    error: str | None
    """None: MLflow has all of it."""


def journals(sweep_folder: Path, known: Mapping[Path, Events] | None = None) -> dict[Path, Events]:
    """Run folder -> its events in brief, of every run with an attempt that can be read, by name.

    `known` are those that were read already.
    """
    found = dict(known or {})
    for folder in (path.parent for path in sweep_folder.glob(f"*/{FILE}")):
        if folder not in found and (events := read(folder, steps=False)).attempts:
            found[folder] = brief(events)
    return dict(sorted(found.items()))


def sync_runs(to: Connection, runs: Mapping[Path, Events]) -> Iterator[Synced]:
    """Bring MLflow up to date with these runs of one sweep, one result each as it is done."""
    if not runs:
        return
    first, folder = first_attempt(runs), next(iter(runs)).parent
    known = to.points(first["sweep"])
    with FileLock(folder / LOCK, timeout=to.within_s):
        parent_id = to.parent(folder, first).info.run_id
    failures = 0

    def one(folder: Path) -> Synced:
        nonlocal failures
        if failures >= GIVEN_UP_AFTER:
            return Synced(folder, f"not tried: {failures} others before it failed")
        events = runs[folder]
        there = own(events, known.get(events.attempts[0]["key"], ()))
        asked: dict[str, Any] = {"known": there, "parent_id": parent_id, "brief": events}
        error = _tried(lambda: project(folder, to, alive=is_alive(folder), **asked))
        failures = failures + 1 if error else 0
        return Synced(folder, error)

    with ThreadPoolExecutor(CALLS_AT_ONCE if to.is_server else 1) as pool:
        yield from pool.map(one, runs)


def compared(to: Connection, runs: Mapping[Path, Events]) -> Iterator[tuple[Path, list[str]]]:
    """What MLflow holds otherwise than these journals of one sweep: run folder, and a line each difference."""
    there = to.points(first_attempt(runs)["sweep"])

    def one(folder: Path) -> tuple[Path, list[str]]:
        events = runs[folder]
        found = own(events, there.get(events.attempts[0]["key"], ()))
        return folder, list(differences(folder, to, found, alive=is_alive(folder)))

    with ThreadPoolExecutor(CALLS_AT_ONCE if to.is_server else 1) as pool:
        yield from pool.map(one, runs)


def sync_parent(to: Connection, sweep_folder: Path, runs: dict[Path, Events]) -> str | None:
    """Bring the sweep's own run up to date; what went wrong, or None."""
    there = [(events, is_alive(folder)) for folder, events in runs.items()]
    return _tried(lambda: project_parent(sweep_folder, to, there)) if there else None


def first_attempt(runs: Mapping[Path, Events]) -> dict[str, Any]:
    """The earliest of all."""
    return min((events.attempts[0] for events in runs.values()), key=lambda attempt: attempt["time"])


def in_a_line(error: Exception) -> str:
    """An error as one line without secrets."""
    line = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return redact(line, secrets=map(os.environ.get, SECRETS))[:300]


def _tried(act: Callable[[], str]) -> str | None:
    """None once it worked; a server that restarts or a database that is locked is asked again.

    It catches everything: whatever is wrong with one run's way into MLflow, the others go on.
    """
    for wait_s in (*TRY_AGAIN_S, None):
        try:
            act()
        except Exception as failure:
            if wait_s is None:
                return in_a_line(failure)
            time.sleep(wait_s)
        else:
            break
    return None
