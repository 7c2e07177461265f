"""Remembers what MLflow has of a run (`mlflow.json` in its folder) and of a sweep. Losing these files does no harm."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweep.tracking import journal
from sweep.tracking.events import milliseconds

FILE = "mlflow.json"
BEGAN = ".mlflow.began"
BEGINNING = re.compile(rb'\{"event":"attempt","time":([0-9.]+),')


@dataclass
class Memory:
    """Which MLflow a run was sent to, and how much of it."""

    server: str
    """The tracking URI without its secrets."""
    experiment: str
    run_id: str | None = None
    update: int = 0
    """The last update whose points MLflow has."""
    samples: int = 0
    """How many samples of the machine's load MLflow has."""
    artifacts: dict[str, str] = field(default_factory=dict)
    """Name -> fingerprint of the file that was sent."""
    settled: str | None = None
    """Status, and fingerprint of the journal, when everything had been sent; written last. None: not yet."""

    def holds(self, run_id: str, status: str) -> bool:
        """Whether it is true of MLflow's run as it is now; a database restored from a backup may have less."""
        return run_id == self.run_id and (self.settled is None or self.settled.partition(" ")[0] == status)

    def save(self, run_folder: Path) -> None:
        """Replace the file, whole or not at all."""
        _replace(run_folder / FILE, json.dumps(asdict(self)))


def recall(run_folder: Path, *, server: str, experiment: str) -> Memory:
    """The memory of this server and experiment; an empty one if there is none, so that everything is sent."""
    try:
        known = Memory(**json.loads((run_folder / FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Memory(server, experiment)
    return known if (known.server, known.experiment) == (server, experiment) else Memory(server, experiment)


def beginnings(sweep_folder: Path) -> set[int]:
    """When the sweep and each run in its folder began, in ms since 1970; tells it from another sweep of its name."""
    times = set()
    for path in sweep_folder.glob(f"*/{journal.FILE}"):
        with path.open("rb") as f:
            began = BEGINNING.match(f.read(64))
        if began is not None:
            times.add(milliseconds({"time": float(began[1])}))
    with contextlib.suppress(FileNotFoundError, ValueError):
        times.add(int((sweep_folder / BEGAN).read_text()))
    return times


def remember_beginning(sweep_folder: Path, began: int) -> None:
    """Keep when a sweep began, in ms since 1970: its first run, which says so too, may be deleted."""
    file = sweep_folder / BEGAN
    if not file.exists() or file.read_text() != str(began):
        _replace(file, str(began))


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    part.write_text(text)
    os.replace(part, file)
