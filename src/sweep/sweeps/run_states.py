"""The state of each run of a sweep, by its journal, its lease, and what Slurm says of its job."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sweep.launch.cluster import FINAL, Queued, Unreachable, last_states, queue
from sweep.launch.job_log import Submitted, submissions
from sweep.sweeps.run_folders import sweep_folder
from sweep.system.lease import is_alive
from sweep.system.progress import Report, read_progress
from sweep.tracking import FILE, outcome
from sweep.tracking.journal import last_attempt

State = Literal["finished", "failed", "interrupted", "running", "pending", "held", "unknown", "not started"]
LIVE = ("running", "pending", "held", "unknown")
"""States of runs that a process or a job has, or may have."""
EXITED = re.compile(r"srun: error: \S+: tasks? \S+: Exited with exit code")
"""srun writes this line last into a job's log, after the message of whatever went wrong."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The state of one run."""

    run: str
    """The name of its folder."""
    state: State
    job: str | None
    """The job that does it, did it, or may begin it; None: none."""
    detail: str
    """Why it is in this state."""
    progress: Report | None = None
    """Of a running run; None: it has no long stage at the moment."""
    jobs: tuple[str, ...] = ()
    """All jobs that may do it: many, while nobody has begun it."""


class Cluster:
    """What Slurm says of jobs; it is asked once an update, and once about each job that has left the queue."""

    def __init__(self) -> None:
        self.queued: Mapping[str, Queued] | None = None
        """The jobs in the queue; None: Slurm has not answered."""
        self._ended: dict[str, str] = {}

    def update(self, jobs: Iterable[str]) -> None:
        """Ask Slurm for the queue and for these jobs; if it does not answer, all jobs in the queue are unknown."""
        try:
            self.queued = queue()
        except Unreachable:
            self.queued = None
            return
        try:
            states = last_states({job for job in jobs if job not in self.queued and not self._ended.get(job)})
        except Unreachable:
            self.queued = None
            return
        living = {job: Queued(state, "not in squeue's list") for job, state in states.items() if state not in FINAL}
        self.queued = {**living, **self.queued}
        gone = set(jobs) - self.queued.keys()
        self._ended = {job: states.get(job) or self._ended.get(job, "") for job in gone}

    def ended(self, job: str) -> str | None:
        """Slurm's state of a job that has ended, "" if nobody remembers it; None: the job has not ended."""
        return self._ended.get(job)

    def by_chance(self, jobs: Sequence[str]) -> tuple[str, ...]:
        """The jobs that may still take a run, running ones first and held ones last; of ended ones the last alone."""

        def place(job: str) -> int:
            queued = (self.queued or {}).get(job)
            return 1 if queued is None else 3 if queued.held else 2 if queued.pending else 0

        return tuple(sorted((job for job in jobs if self.ended(job) is None), key=place)) or tuple(jobs[-1:])


def run_states(sweep: Path, cluster: Cluster, *, runs: Iterable[str] | None = None) -> list[RunState]:
    """The states of these runs of the sweep in this folder; None: of all that were submitted or have begun."""
    given = submissions(sweep)
    names = [*given, *(path.parent.name for path in sorted(sweep.glob(f"*/{FILE}")))] if runs is None else runs
    chances = {of.jobs: cluster.by_chance(of.jobs) for of in set(given.values())}
    return [
        _run_state(sweep / name, of := given.get(name), chances[of.jobs] if of else (), cluster)
        for name in dict.fromkeys(names)
    ]


def unfinished_jobs(sweep: Path) -> set[str]:
    """The jobs of the sweep's runs that are not finished."""
    unfinished = (of for run, of in submissions(sweep).items() if _status(outcome(sweep / run)) != "finished")
    return {job for jobs in {of.jobs for of in unfinished} for job in jobs}


def _status(end: Mapping[str, Any] | None) -> State:
    return "not started" if end is None else end["status"]


def _run_state(folder: Path, given: Submitted | None, jobs: tuple[str, ...], cluster: Cluster) -> RunState:
    """`jobs` are those that it was given to, the one that most likely does it first."""
    attempt, end = last_attempt(folder)
    if given is not None:  # attempts before these jobs don't count
        attempt = attempt if attempt is not None and attempt["time"] >= given.time else None
        end = end if end is not None and (end["status"] == "finished" or end["time"] >= given.time) else None
    if given is not None and attempt is not None:
        name = str(attempt.get("job")).partition(" ")[0]
        jobs = (name,) if name in given.jobs else ()  # else a process outside of these jobs has begun it
    log = given.logs[given.jobs.index(jobs[0])] if given and jobs else ""
    state, detail = _state(folder, jobs[0] if jobs else None, log, end, cluster)
    progress = read_progress(folder) if state == "running" else None
    return RunState(
        run=folder.name, state=state, job=jobs[0] if jobs else None, detail=detail, progress=progress, jobs=jobs
    )


def _state(
    folder: Path, job: str | None, log: str, end: Mapping[str, Any] | None, cluster: Cluster
) -> tuple[State, str]:
    """State and detail. A run without an outcome is running while its lease is held; a job may still begin it."""
    if end is not None and (job is None or end["status"] != "interrupted"):
        return end["status"], end["error"] or ""
    if job is None or cluster.ended(job) is not None:
        if end is None and is_alive(folder):
            return "running", "in a process of this machine or another"
        gone: State = "interrupted" if (folder / FILE).is_file() else "not started"
        if job is None:
            return gone, "its process is gone" if gone == "interrupted" else ""
        how = cluster.ended(job) or "and nobody remembers how"
        return gone, f"its job ended {how}; {last_words(log) if end is None else end['error']}"
    if cluster.queued is None:
        return "unknown", "Slurm's controller doesn't answer"
    queued = cluster.queued.get(job)
    if queued is None:  # submitted since Slurm was asked
        return "pending", ""
    why = f"{queued.state.lower()}, {queued.reason}"
    if queued.held:
        return "held", f"{why}: scontrol release {job}"
    if queued.pending:
        return "pending", why
    if is_alive(folder):
        return "running", queued.state.lower()
    return "pending", "its job is running, and does other runs or starts"


def last_words(log: str) -> str:
    """The last message in a job's log and the log's path; the line that srun adds to every failure is left out."""
    try:
        lines = [line for line in Path(log).read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        lines = []
    messages = [line for line in lines if not EXITED.match(line)] or lines
    return f"{messages[-1].strip() if messages else 'it wrote nothing'}; log {log}"


def look(multirun: Path, name: str, cluster: Cluster) -> list[RunState]:
    """The states of a sweep's runs now; Refusal with the names of all sweeps if it doesn't exist."""
    folder = sweep_folder(name, multirun)
    cluster.update(unfinished_jobs(folder))
    return run_states(folder, cluster)


def to_text(run: RunState) -> str:
    """One line, for people."""
    progress = ""
    if run.progress is not None:
        stage, done, total, ends = run.progress
        progress = f"{stage} {done}/{total}"
        progress += f" until about {time.strftime('%H:%M:%S', time.localtime(ends))}" if ends else ""
    parts = [run.state, run.run, f"job {run.job}" if run.job else "", progress, run.detail]
    return "  ".join(part for part in parts if part)
