"""The file in a sweep's folder that says which runs were submitted to the cluster, and to which jobs."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from sweep.system.sealed import append, opened, whole_lines

log = logging.getLogger(__name__)

FOLDER = ".slurm"
FILE = "submitted.jsonl"


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """Jobs, or elements of an array of jobs, and the runs that they share."""

    jobs: tuple[str, ...]
    """As Slurm names them: "12", or "12_3" of an array."""
    runs: tuple[str, ...]
    """The names of their folders; whichever job is free takes the next one."""
    time: float
    """When they were submitted, seconds since 1970."""
    logs: tuple[str, ...]
    """Path of each job's log."""


def record(sweep: Path, jobs: Iterable[Submitted]) -> None:
    """Add submitted jobs to the file of the sweep in this folder; on disk before this returns.

    A last line that a kill or a full disk has cut off is removed first.
    """
    (sweep / FOLDER).mkdir(parents=True, exist_ok=True)
    with FileLock(sweep / FOLDER / f"{FILE}.lock"):
        append(sweep / FOLDER / FILE, [json.dumps(dataclasses.asdict(job)) for job in jobs])


def submissions(sweep: Path) -> dict[str, Submitted]:
    """Run -> the last jobs that it was given to. A damaged line is named and left out."""
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
            job = _submitted(opened(line) or {})
        except (TypeError, KeyError):
            log.warning("%s: line %d is damaged, and left out", sweep / FOLDER / FILE, number)
            continue
        jobs |= dict.fromkeys(job.runs, job)
    return jobs


def _submitted(fields: dict[str, Any]) -> Submitted:
    """One line of the file; an earlier release wrote one for each job, and the job did all of its runs."""
    if "job" in fields:
        kept = {name: fields[name] for name in ("runs", "time")}
        fields = {**kept, "jobs": [fields["job"]], "logs": [fields["log"]]}
    lists = {name: tuple(map(str, fields[name])) for name in ("jobs", "runs", "logs")}
    return Submitted(**{**fields, **lists})
