"""The file in a sweep's folder that says which runs were submitted to the cluster, and in which jobs."""

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
    """One job, or one element of an array of jobs, and its runs."""

    job: str
    """As Slurm names it: "12", or "12_3" of an array."""
    runs: tuple[str, ...]
    """The names of their folders, in the order in which the job does them."""
    time: float
    """When it was submitted, seconds since 1970."""
    log: str
    """Path of its log."""


def record(sweep: Path, jobs: Iterable[Submitted]) -> None:
    """Add submitted jobs to the file of the sweep in this folder; on disk before this returns."""
    lines = "".join(f"{json.dumps(dataclasses.asdict(job))}\n" for job in jobs)
    (sweep / FOLDER).mkdir(parents=True, exist_ok=True)
    with (sweep / FOLDER / FILE).open("a") as f:
        f.write(lines)
        f.flush()
        os.fsync(f.fileno())


def submissions(sweep: Path) -> dict[str, Submitted]:
    """Run -> the last job that it was given to."""
    try:
        lines = (sweep / FOLDER / FILE).read_text().split("\n")[:-1]
    except FileNotFoundError:
        return {}
    jobs: dict[str, Submitted] = {}
    for line in lines:
        fields = json.loads(line)
        job = Submitted(**{**fields, "runs": tuple(fields["runs"])})
        jobs |= dict.fromkeys(job.runs, job)
    return jobs
