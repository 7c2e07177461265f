"""Puts a report beside its sweep's run in MLflow, and fetches a sweep's journals back from MLflow."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from sweep.system.store import seal
from sweep.tracking.connection import LOCK, Connection
from sweep.tracking.journal import FILE
from sweep.tracking.sweeps import first_attempt, journals


def attach(to: Connection, sweep_folder: Path, report: Path) -> str:
    """Log a report's folder as `report/` to the MLflow run of the sweep, made if absent; the run's id."""
    first = first_attempt(journals(sweep_folder))
    with FileLock(sweep_folder / LOCK, timeout=to.within_s):
        run = to.parent(sweep_folder, first)
    to.client.log_artifacts(run.info.run_id, str(report), "report")
    return run.info.run_id


def fetch(to: Connection, sweep: str, folder: Path) -> int:
    """Write the journal and records of each run of a sweep into a folder of its own under `folder`; the number of runs.

    MLflow gets a journal when its run has ended, so runs under way are not counted.
    """
    count = 0
    for run_id in (run.info.run_id for runs in to.points(sweep).values() for run in runs):
        names = {file.path for file in to.client.list_artifacts(run_id)}
        for name in names & {FILE, "records"}:
            (folder / run_id).mkdir(parents=True, exist_ok=True)
            to.client.download_artifacts(run_id, name, str(folder / run_id))
        for records in (folder / run_id / "records").glob("[!.]*"):
            seal(records, folder)
        count += FILE in names
    return count
