"""Where MLflow is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sweep.config import Tracking


@dataclass(frozen=True)
class Where:
    """The MLflow that shows outcomes."""

    tracking_uri: str
    """May hold a password: it goes on in the environment alone."""
    experiment: str
    artifact_root: Path
    """For artifacts where there is no server."""


def tracking_uri(tracking: Tracking, multirun: Path) -> str:
    """Where MLflow is: `tracking.uri`, else MLFLOW_TRACKING_URI, else a SQLite file beside the runs."""
    return tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or database(multirun)


def database(multirun: Path) -> str:
    """The SQLite file beside the runs, as a tracking URI."""
    return f"sqlite:///{multirun / 'mlflow.db'}"


def where(tracking: Tracking, multirun: Path) -> Where:
    """The MLflow that shows runs of this choice."""
    return Where(tracking_uri(tracking, multirun), tracking.experiment, multirun / "mlartifacts")


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file that a tracking URI names; None: it names a server or another database."""
    path = tracking_uri.removeprefix("sqlite:///")
    return None if path == tracking_uri else Path(path)
