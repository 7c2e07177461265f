"""A whole sweep: brings MLflow up to date with all its journals, and compares them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Run

from sweep.system.lease import is_alive
from sweep.system.terminal import without_secrets
from sweep.tracking.checking import differences
from sweep.tracking.connection import LOCK, Connection, own
from sweep.tracking.events import Events
from sweep.tracking.journal import FILE, read
from sweep.tracking.projection import Known, project, project_parent
from sweep.tracking.sync_state import recall

CALLS_AT_ONCE = 8
"""Runs that are sent to a server at the same time; a SQLite file takes one."""
TRY_AGAIN_S = (1.0, 4.0)
"""Pauses before a failed call is tried again, in seconds."""
GIVEN_UP_AFTER = 8
"""After so many failures one after another, the other runs of the sweep are left for the next time."""


@dataclass(frozen=True)
class Synced:
    """Whether a run was sent."""

    folder: Path
    error: str | None
    """Why MLflow lacks something; None: it has everything."""


def journals(sweep_folder: Path, known: Mapping[Path, Events] | None = None) -> dict[Path, Events]:
    """Run folder -> summary of its journal, sorted, of each run with an attempt that can be read.

    `known` are the summaries that have been made already.
    """
    summaries = dict(known or {})
    for folder in (path.parent for path in sweep_folder.glob(f"*/{FILE}")):
        if folder not in summaries and (events := read(folder, steps=False)).attempts:
            summaries[folder] = events.summary()
    return dict(sorted(summaries.items()))


def sync_runs(to: Connection, runs: Mapping[Path, Events]) -> Iterator[Synced]:
    """Bring MLflow up to date with these runs of one sweep; yields a result for each as soon as it is known."""
    if not runs:
        return
    first, folder = first_attempt(runs), next(iter(runs)).parent
    existing = to.points(first["sweep"])
    with FileLock(folder / LOCK, timeout=to.within_s):
        parent_id = to.parent(folder, first).info.run_id
    failures = 0

    def sync_run(folder: Path) -> Synced:
        nonlocal failures
        if failures >= GIVEN_UP_AFTER:
            return Synced(folder, f"not tried, because {failures} runs before it failed")
        events = runs[folder]
        known = Known(_own(folder, to, events, existing, parent_id), parent_id, events)
        error = _tried(lambda: project(folder, to, alive=is_alive(folder), known=known))
        failures = failures + 1 if error else 0
        return Synced(folder, error)

    with _pool(to) as pool:
        yield from pool.map(sync_run, runs)


def compared(to: Connection, runs: Mapping[Path, Events]) -> Iterator[tuple[Path, list[str]]]:
    """(run folder, differences between MLflow and its journal) of these runs of one sweep."""
    first = first_attempt(runs)
    existing, parent_id = to.points(first["sweep"]), to.parent_id(next(iter(runs)).parent, first)

    def compare(folder: Path) -> tuple[Path, list[str]]:
        events = runs[folder]
        mlflow_runs = _own(folder, to, events, existing, parent_id)
        return folder, list(differences(folder, to, mlflow_runs, alive=is_alive(folder)))

    with _pool(to) as pool:
        yield from pool.map(compare, runs)


def _own(
    folder: Path, to: Connection, events: Events, existing: Mapping[str, list[Run]], parent_id: str | None
) -> list[Run]:
    """The MLflow runs that stand for the run in this folder of the sweep whose MLflow run is `parent_id`."""
    remembered = recall(folder, server=to.server, experiment=to.experiment).run_id
    return own(events, existing.get(events.attempts[0]["key"], ()), remembered, parent_id)


def sync_parent(to: Connection, sweep_folder: Path, runs: dict[Path, Events]) -> str | None:
    """Bring the sweep's own run up to date; the error, or None."""
    states = [(events, is_alive(folder)) for folder, events in runs.items()]
    return _tried(lambda: project_parent(sweep_folder, to, states)) if states else None


def first_attempt(runs: Mapping[Path, Events]) -> dict[str, Any]:
    """The earliest attempt of all runs."""
    return min((events.attempts[0] for events in runs.values()), key=lambda attempt: attempt["time"])


def in_a_line(error: Exception) -> str:
    """An error as one line without secrets."""
    line = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return without_secrets(line)[:300]


def error_of(act: Callable[[], object]) -> str | None:
    """Why the call failed, in a line; None if it did not.

    It catches every exception: whatever keeps one run out of MLflow, the others are sent, and the journals have all.
    """
    try:
        act()
    except Exception as failure:  # as said above
        return in_a_line(failure)
    return None


def _pool(to: Connection) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(CALLS_AT_ONCE if to.is_server else 1)


def _tried(act: Callable[[], object]) -> str | None:
    """None as soon as the call succeeds, else its last error; a server may restart, or a database be locked."""
    for wait_s in TRY_AGAIN_S:
        if error_of(act) is None:
            return None
        time.sleep(wait_s)
    return error_of(act)
