"""How the runs of a sweep stand, by their journals and by what Slurm says of their jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweep.launch.cluster import Queued, Unreachable, ended, queue
from sweep.launch.job_log import Submitted, submissions
from sweep.system.progress import Report, read_progress
from sweep.tracking import FILE, outcome

State = Literal["finished", "failed", "interrupted", "running", "pending", "held", "lost", "unknown"]
LIVE = ("running", "pending", "held", "unknown")
"""States of runs that a job still holds, or may hold."""
EXITED = re.compile(r"srun: error: \S+: tasks? \S+: Exited with exit code")
"""The last line of a job's log, after whatever went wrong."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one run stands."""

    run: str
    """Its folder's name."""
    state: State
    job: str | None
    """The last job that it was given to."""
    detail: str
    """Why, or what it is at."""
    progress: Report | None = None
    """Of a running one."""


class Cluster:
    """What is known of jobs: Slurm is asked once an update, and what left the queue is asked after once."""

    def __init__(self) -> None:
        self.queued: Mapping[str, Queued] | None = None
        self._gone: dict[str, str] = {}

    def update(self, jobs: Iterable[str]) -> None:
        """Ask; where the controller doesn't answer nothing is known, and nothing is concluded."""
        try:
            self.queued = queue()
        except Unreachable:
            self.queued = None
            return
        gone = {job for job in jobs if job not in self.queued and not self._gone.get(job)}
        states = ended(gone)
        self._gone |= {job: states.get(job, "") for job in gone}

    def gone(self, job: str) -> str | None:
        """How the job ended, "" where nobody remembers; None: it has not, as far as is known."""
        return self._gone.get(job)


def standings(sweep: Path, cluster: Cluster, *, runs: Iterable[str] | None = None) -> list[Standing]:
    """How these runs of the sweep in this folder stand; None: all that were submitted or have begun."""
    jobs = submissions(sweep)
    names = [*jobs, *(path.parent.name for path in sorted(sweep.glob(f"*/{FILE}")))] if runs is None else runs
    return [_standing(sweep, name, jobs.get(name), cluster) for name in dict.fromkeys(names)]


def jobs_left(sweep: Path) -> set[str]:
    """The jobs of a sweep's runs that are not finished."""
    left = (job for run, job in submissions(sweep).items() if (outcome(sweep / run) or {}).get("status") != "finished")
    return {job.job for job in left}


def _standing(sweep: Path, name: str, job: Submitted | None, cluster: Cluster) -> Standing:
    folder = sweep / name
    said = outcome(folder)
    state = "" if said is None else said["status"]
    if state == "finished":
        return Standing(run=name, state="finished", job=None if job is None else job.job, detail="")
    if job is None:
        return _without_job(folder, name, said)
    mine = said if said is not None and said["time"] >= job.time else None  # not of a job before this one
    if mine is not None and mine["status"] == "failed":
        return Standing(run=name, state="failed", job=job.job, detail=mine["error"])
    if (gone := cluster.gone(job.job)) is not None:
        if mine is not None:
            return Standing(run=name, state="interrupted", job=job.job, detail=_slurm(gone, mine["error"]))
        return Standing(run=name, state="lost", job=job.job, detail=_slurm(gone, last_words(job)))
    if cluster.queued is None:
        return Standing(run=name, state="unknown", job=job.job, detail="Slurm's controller doesn't answer")
    now = cluster.queued.get(job.job)
    if now is None:  # submitted since Slurm was asked
        return Standing(run=name, state="pending", job=job.job, detail="")
    why = f"{now.state.lower()}, {now.reason}"
    if now.held:
        return Standing(run=name, state="held", job=job.job, detail=f"{why}: scontrol release {job.job}")
    if now.pending:
        return Standing(run=name, state="pending", job=job.job, detail=why)
    progress = read_progress(folder)
    if progress is None and not _begun(folder, job):
        return Standing(run=name, state="pending", job=job.job, detail="in a running job, not its turn yet")
    return Standing(run=name, state="running", job=job.job, detail=now.state.lower(), progress=progress)


def _without_job(folder: Path, name: str, said: Mapping[str, Any] | None) -> Standing:
    """Of a run that no cluster was given: on this machine, or on another by hand."""
    if said is not None:
        return Standing(run=name, state=said["status"], job=None, detail=said["error"] or "")
    progress = read_progress(folder)
    if progress is None:
        return Standing(run=name, state="lost", job=None, detail="begun, and killed or between two stages")
    return Standing(run=name, state="running", job=None, detail="on this machine or another", progress=progress)


def _begun(folder: Path, job: Submitted) -> bool:
    """Whether the journal was written since the job was submitted."""
    journal = folder / FILE
    return journal.is_file() and journal.stat().st_mtime >= job.time


def _slurm(state: str, said: str) -> str:
    return f"its job ended {state or 'and nobody remembers how'}; {said}"


def last_words(job: Submitted) -> str:
    """The end of a job's log, which says why where no journal does; what srun adds to any failure says nothing."""
    try:
        lines = [line for line in Path(job.log).read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        lines = []
    said = [line for line in lines if not EXITED.match(line)] or lines
    return f"{said[-1].strip() if said else 'it wrote nothing'}; log {job.log}"


def look(multirun: Path, name: str, cluster: Cluster) -> list[Standing]:
    """How the runs of a sweep stand now; FileNotFoundError listing the sweeps where there is none of this name."""
    folder = multirun / name
    if not folder.is_dir():
        there = sorted(path.name for path in multirun.glob("*") if submissions(path) or any(path.glob(f"*/{FILE}")))
        raise FileNotFoundError(f"there is no sweep {name!r} in {multirun}: there is {', '.join(there) or 'none'}")
    cluster.update(jobs_left(folder))
    return standings(folder, cluster)


def to_text(standing: Standing) -> str:
    """One line, for people."""
    at = ""
    if standing.progress is not None:
        stage, done, total, ends = standing.progress
        at = f"{stage} {done}/{total}"
        at += f" until about {time.strftime('%H:%M:%S', time.localtime(ends))}" if ends else ""
    words = [standing.state, standing.run, f"job {standing.job}" if standing.job else "", at, standing.detail]
    return "  ".join(word for word in words if word)
