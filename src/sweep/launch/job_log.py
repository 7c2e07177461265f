"""What was handed to the cluster, in the sweep's own folder: written when it is submitted, read by whoever asks."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FOLDER = ".slurm"
FILE = "submitted.jsonl"


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """One job, or one element of an array, and the runs that it does one after another."""

    job: str
    """As Slurm names it: "12", or "12_3" of an array."""
    runs: tuple[str, ...]
    """Their folders' names within the sweep's."""
    time: float
    """When it was submitted, seconds since 1970."""
    log: str
    """Its file of messages."""


def record(sweep: Path, jobs: Iterable[Submitted]) -> None:
    """Add what was submitted for the sweep in this folder; on the disk before this returns."""
    lines = "".join(f"{json.dumps(dataclasses.asdict(job))}\n" for job in jobs)
    (sweep / FOLDER).mkdir(parents=True, exist_ok=True)
    with (sweep / FOLDER / FILE).open("a") as f:
        f.write(lines)
        f.flush()
        os.fsync(f.fileno())


def submissions(sweep: Path) -> dict[str, Submitted]:
    """Run -> the last job that it was given to; empty where none was."""
    try:
        lines = (sweep / FOLDER / FILE).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return {}
    found: dict[str, Submitted] = {}
    for line in lines:
        words = json.loads(line)
        job = Submitted(**{**words, "runs": tuple(words["runs"])})
        found |= dict.fromkeys(job.runs, job)
    return found
