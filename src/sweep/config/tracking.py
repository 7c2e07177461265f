"""Where outcomes are shown."""

from __future__ import annotations

import re

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from sweep.config.types import CHOICES, Flag, Name, Text

SECRET = re.compile(r"://[^/@]*:[^/@]*@|^https?://[^/@]*@|[?&]\w*(?:token|password|passwd|pwd|secret)=", re.IGNORECASE)
"""What may be a password or a token in a URI; in front of the @ of an HTTP server even a name alone may be a token."""


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Tracking:
    """Where outcomes are shown."""

    name: Name
    uri: Text | None
    """MLflow's tracking URI if MLFLOW_TRACKING_URI is not set; None: a SQLite file beside the runs then."""
    experiment: Name
    enabled: Flag

    @model_validator(mode="after")
    def _no_secret(self) -> Tracking:
        if self.uri is not None and SECRET.search(self.uri):
            raise ValueError(
                "tracking.uri holds a password or token, which Hydra would write into multirun.yaml: give it in the "
                "environment, MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_TOKEN or _USERNAME and _PASSWORD"
            )
        return self
