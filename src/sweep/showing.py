"""Bringing outcomes before people's eyes: MLflow, as far as it answers, and the table in the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sweep.config import RunConfig, Tracking
from sweep.plan import run_folder
from sweep.table import draw, row
from sweep.tracking import read


def tracking_uri(tracking: Tracking, multirun: Path) -> str:
    """Where MLflow is: `tracking.uri`, else MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{multirun / 'mlflow.db'}"


def show_run(config: RunConfig, folder: Path, *, multirun: Path) -> None:
    """Bring MLflow up to date with one run's journal; where it doesn't answer, the journal waits."""
    if config.tracking.enabled:
        from sweep.tracking.projection import project_safely

        project_safely(folder, **_where(config, multirun))


def show_sweep(configs: list[RunConfig], *, multirun: Path) -> None:
    """Bring the sweep's parent run up to date, and print the table of these points."""
    config = configs[0]
    folders = [multirun / config.name / run_folder(point) for point in configs]
    folders = [folder for folder in folders if (folder / "journal.jsonl").is_file()]
    if config.tracking.enabled and folders:
        from sweep.tracking.projection import project_safely, project_sweep_safely

        # a run may have ended while MLflow was away, or been killed before MLflow had its outcome;
        # where MLflow does not answer for one run it is not asked for the others
        all(project_safely(folder, **_where(config, multirun)) for folder in folders)
        project_sweep_safely(multirun / config.name, **_where(config, multirun))
    journals = {folder: read(folder, steps=False) for folder in folders}
    rows = [row(point, journals.get(multirun / config.name / run_folder(point))) for point in configs]
    sys.stdout.write(draw(config.name, rows))
    sys.stdout.write(f"runs      {multirun / config.name}\n")
    if config.tracking.enabled:
        sys.stdout.write("compare   make ui   (or python -m sweep.ui)\n")


def _where(config: RunConfig, multirun: Path) -> dict[str, Any]:
    return {
        "tracking_uri": tracking_uri(config.tracking, multirun),
        "experiment": config.tracking.experiment,
        "artifact_root": multirun / "mlartifacts",
    }
