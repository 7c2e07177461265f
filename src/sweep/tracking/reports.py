"""Puts a report beside its sweep's run in MLflow, and fetches a sweep's journals back from MLflow."""

from __future__ import annotations

from pathlib import Path

from sweep.system.lease import is_alive
from sweep.system.store import seal
from sweep.tracking.connection import Connection
from sweep.tracking.journal import FILE
from sweep.tracking.projection import project_parent
from sweep.tracking.sweeps import journals


def attach(to: Connection, sweep_folder: Path, report: Path) -> str:
    """Log a report's folder as `report/` to the MLflow run of the sweep, whose note begins with it; the run's id."""
    states = [(events, is_alive(folder)) for folder, events in journals(sweep_folder).items()]
    run_id = project_parent(sweep_folder, to, states)
    to.client.log_artifacts(run_id, str(report), "report")
    return run_id


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
