"""Remembers what MLflow has of a run (`mlflow.json` in its folder) and of a sweep. Losing these files does no harm."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sweep.system.files import read_bytes
from sweep.system.sealed import opened, read_sealed, write_sealed
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
        write_sealed(run_folder / FILE, asdict(self))


def recall(run_folder: Path, *, server: str, experiment: str) -> Memory:
    """The memory of this server and experiment; an empty one if there is none, so that everything is sent."""
    known = remembered(run_folder)
    same = known is not None and (known.server, known.experiment) == (server, experiment)
    return known if known is not None and same else Memory(server, experiment)


def remembered(run_folder: Path) -> Memory | None:
    """The memory of the MLflow that the run was sent to last; None if there is none."""
    fields = read_sealed(run_folder / FILE, remedy="MLflow is asked what it has")
    try:
        return Memory(**(fields or {}))
    except TypeError:
        return None


def beginnings(sweep_folder: Path) -> set[int]:
    """When the sweep and each run in its folder began, in ms since 1970; tells it from another sweep of its name."""
    times = set()
    for path in sweep_folder.glob(f"*/{journal.FILE}"):
        with path.open("rb") as f:
            began = BEGINNING.match(f.read(64))
        if began is not None:
            times.add(milliseconds({"time": float(began[1])}))
    if (began_ms := _remembered(sweep_folder)) is not None:
        times.add(began_ms)
    return times


def remember_beginning(sweep_folder: Path, began: int) -> None:
    """Keep when a sweep began, in ms since 1970: its first run, which says so too, may be deleted."""
    if _remembered(sweep_folder) != began:
        write_sealed(sweep_folder / BEGAN, {"began": began})


def _remembered(sweep_folder: Path) -> int | None:
    """What `remember_beginning` has kept; older versions kept a plain number."""
    try:
        content = read_bytes(sweep_folder / BEGAN).strip()
    except (FileNotFoundError, IsADirectoryError):
        return None
    if content.isdigit():
        return int(content)
    began = (opened(content) or {}).get("began")
    return began if isinstance(began, int) else None
