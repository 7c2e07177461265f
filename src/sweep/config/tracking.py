"""Where outcomes are shown."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Flag, Name, Text


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Tracking:
    """Where outcomes are shown."""

    name: Name
    uri: Text | None
    """MLflow's tracking URI if MLFLOW_TRACKING_URI is not set; None: a SQLite file beside the runs then."""
    experiment: Name
    enabled: Flag
