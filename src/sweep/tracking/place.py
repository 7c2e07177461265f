"""Where MLflow is. Runs, `sweep sync`, `sweep ui` and `sweep report` all ask here."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweep.tracking.events import Events

VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Place:
    """An MLflow and an experiment in it."""

    tracking_uri: str
    """It may hold a password, so other processes get it in their environment only."""
    experiment: str
    artifact_root: Path
    """Folder for artifacts. It is used only if MLflow is a database without a server."""


def mlflow_place(multirun: Path, configured_uri: str | None = None, experiment: str = "sweep") -> Place:
    """The MLflow of the runs in `multirun`: MLFLOW_TRACKING_URI, else `tracking.uri`, else a SQLite file beside them.

    The environment comes first because that is how runs are sent to another MLflow than they were configured with.
    """
    uri = os.environ.get(VARIABLE) or configured_uri or f"sqlite:///{multirun / 'mlflow.db'}"
    return Place(uri, experiment, multirun / "mlartifacts")


def recorded_tracking(events: Events) -> dict[str, Any]:
    """The `tracking` section of a run's configuration, as its last attempt had it."""
    return _parsed(_section(events.attempts[-1]["config_yaml"]))


def sqlite_file(tracking_uri: str) -> Path | None:
    """The SQLite file that a tracking URI names; None if it names a server or another database."""
    path = tracking_uri.removeprefix("sqlite:///")
    return None if path == tracking_uri else Path(path)


@functools.cache
def _parsed(section: str) -> dict[str, Any]:
    return yaml.safe_load(section)["tracking"]


def _section(config_yaml: str) -> str:
    """The lines of `tracking:` in a configuration, to its next top-level key.

    Reading all of a configuration takes PyYAML 20 ms (2 ms with libyaml), and a sweep may have 10,000 of them.
    """
    lines = config_yaml.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("tracking:"))
    ends = (number for number, line in enumerate(lines) if number > start and line[:1] not in ("", " ", "#"))
    return "\n".join(lines[start : next(ends, None)])
