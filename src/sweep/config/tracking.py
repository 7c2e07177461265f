"""Where outcomes are shown."""

from __future__ import annotations

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Flag, Name, Text

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
"""What MLflow takes as a server or a database."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Tracking:
    """Where outcomes are shown."""

    name: Name
    uri: Text | None
    """MLflow's tracking URI if MLFLOW_TRACKING_URI is not set; None: a SQLite file beside the runs then."""
    experiment: Name
    enabled: Flag

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str | None) -> str | None:
        scheme, found, _ = (uri or "").partition("://")
        if uri is not None and (not found or scheme.partition("+")[0] not in SCHEMES):
            raise ValueError(f"must be an MLflow: one of {', '.join(f'{name}://…' for name in SCHEMES)}, or null")
        return uri
