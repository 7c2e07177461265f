"""The file in a sweep's folder that says which runs were submitted to the cluster, and in which jobs."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from sweep.system.sealed import append, opened, whole_lines

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
    (sweep / FOLDER).mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / FOLDER / f"{FILE}.lock"):
        append(sweep / FOLDER / FILE, [json.dumps(dataclasses.asdict(job)) for job in jobs])


def submissions(sweep: Path) -> dict[str, Submitted]:
    """Run -> the last job that it was given to. A damaged line is named and left out."""
    try:
        lines = whole_lines(sweep / FOLDER / FILE)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except IsADirectoryError:
        log.warning("%s is a folder where a file belongs: which jobs the runs had is unknown", sweep / FOLDER / FILE)
        return {}
    jobs: dict[str, Submitted] = {}
    for number, line in enumerate(lines, 1):
        try:
            fields = opened(line) or {}
            job = Submitted(**{**fields, "runs": tuple(map(str, fields["runs"]))})
        except (TypeError, KeyError):
            log.warning("%s: line %d is damaged, and left out", sweep / FOLDER / FILE, number)
            continue
        jobs |= dict.fromkeys(job.runs, job)
    return jobs
