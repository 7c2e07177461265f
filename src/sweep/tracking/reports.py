"""Reports and MLflow: a report put beside its sweep's own run, and a sweep's journals taken back from there."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from sweep.tracking.connection import LOCK, Connection
from sweep.tracking.journal import FILE
from sweep.tracking.sweeps import first_attempt, journals


def attach(to: Connection, sweep_folder: Path, report: Path) -> str:
    """Log a report's folder as `report/` to the run that stands for the sweep, made where absent; its id."""
    first = first_attempt(journals(sweep_folder))
    with FileLock(sweep_folder / LOCK, timeout=to.within_s):
        run = to.parent(sweep_folder, first)
    to.client.log_artifacts(run.info.run_id, str(report), "report")
    return run.info.run_id


def fetch(to: Connection, sweep: str, folder: Path) -> int:
    """Write journal and records of every point of a sweep under `folder`, a run folder each; how many there were.

    What MLflow doesn't have yet, because a run hasn't ended, isn't there either.
    """
    count = 0
    for run_id in (run.info.run_id for runs in to.points(sweep).values() for run in runs):
        there = {file.path for file in to.client.list_artifacts(run_id)}
        for name in there & {FILE, "records"}:
            (folder / run_id).mkdir(parents=True, exist_ok=True)
            to.client.download_artifacts(run_id, name, str(folder / run_id))
        count += FILE in there
    return count
