"""The file in a sweep's folder that says which runs were submitted to the cluster, and in which jobs."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)

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
    """Add submitted jobs to the file of the sweep in this folder; on disk before this returns.

    A last line that a kill or a full disk has cut off is removed first.
    """
    lines = "".join(f"{json.dumps(dataclasses.asdict(job))}\n" for job in jobs)
    (sweep / FOLDER).mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / FOLDER / f"{FILE}.lock"), (sweep / FOLDER / FILE).open("ab+") as f:
        f.seek(0)
        f.truncate(f.read().rfind(b"\n") + 1)
        f.write(lines.encode())
        f.flush()
        os.fsync(f.fileno())


def submissions(sweep: Path) -> dict[str, Submitted]:
    """Run -> the last job that it was given to. A damaged line is named and left out."""
    try:
        lines = (sweep / FOLDER / FILE).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    jobs: dict[str, Submitted] = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            job = Submitted(**{**fields, "runs": tuple(map(str, fields["runs"]))})
        except (ValueError, TypeError, KeyError):
            log.warning("%s: line %d is damaged, and left out", sweep / FOLDER / FILE, number)
            continue
        jobs |= dict.fromkeys(job.runs, job)
    return jobs
