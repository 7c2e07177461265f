"""What MLflow already has of a run: `mlflow.json` in the run's folder, a memory that may be lost without harm."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "mlflow.json"


@dataclass
class Memory:
    """Whom it was sent to, and how far."""

    server: str
    """The tracking URI without its secrets."""
    experiment: str
    run_id: str | None = None
    update: int = 0
    """The last update whose points are there."""
    samples: int = 0
    """How many samples of the machine are there."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Name -> fingerprint of what was sent."""
    settled: str | None = None
    """Fingerprint of the journal, and the status, when everything was there; written last."""

    def holds(self, run_id: str, status: str) -> bool:
        """Whether it is of MLflow's run as it is now: a database put back from a backup may not have come so far."""
        return run_id == self.run_id and (self.settled is None or self.settled.partition(" ")[0] == status)

    def save(self, run_folder: Path) -> None:
        """Replace the file, whole or not at all."""
        part = run_folder / f".{FILE}.{uuid.uuid4().hex}"
        part.write_text(json.dumps(asdict(self)))
        os.replace(part, run_folder / FILE)


def recall(run_folder: Path, *, server: str, experiment: str) -> Memory:
    """What was remembered of this very server, else nothing: everything is sent anew."""
    try:
        known = Memory(**json.loads((run_folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Memory(server, experiment)
    return known if (known.server, known.experiment) == (server, experiment) else Memory(server, experiment)
