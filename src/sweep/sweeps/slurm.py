"""A sweep on a cluster: jobs share the runs that are not done as a queue; they are submitted, and watched."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.launch.cluster import ask
from sweep.launch.job_log import FOLDER, Submitted, record
from sweep.launch.preflight import check_accepted, check_request
from sweep.launch.slurm import submit
from sweep.planning.job_requests import JobRequest, job_groups
from sweep.planning.queue import taking_order
from sweep.sweeps.queue import Queue, QueuedRun
from sweep.sweeps.run_folders import is_finished
from sweep.sweeps.run_states import LIVE, Cluster, RunState, run_states, to_text, unfinished_jobs
from sweep.sweeps.worker import Do, do_queued, work_in_process
from sweep.system.progress import RunsProgress

log = logging.getLogger(__name__)

CANCELLED_AT_ONCE = 500
"""Number of jobs that one scancel gets."""


@dataclass(frozen=True, kw_only=True)
class Submitting:
    """How the runs of a command are given to a cluster."""

    request: JobRequest
    """What a person chose of what follows from the model otherwise."""
    parameters: Mapping[str, Any]
    """Submitit's, those of the request included."""
    workers: int | None
    """Jobs in all; None: one for each run, but at most `array_parallelism`."""
    max_num_timeout: int


class Runs:
    """The runs of one command, and their jobs once they are submitted."""

    def __init__(self, runs: Sequence[QueuedRun]) -> None:
        self.runs = runs
        self.cluster = Cluster()
        self.refused: dict[int, str] = {}
        """Runs that sbatch took no job for, with its message."""

    def todo(self) -> list[int]:
        """The runs to submit: not done, and no living job or process has them."""
        states = self.look()
        todo = []
        for i, (run, state) in enumerate(zip(self.runs, states, strict=True)):
            if is_finished(run.key, run.folder):
                continue
            if state.state in LIVE:
                log.info("left alone: %s", to_text(state))
            else:
                todo.append(i)
        return todo

    def submit(self, todo: Sequence[int], chosen: Submitting, *, do_run: Do = do_queued) -> None:
        """Submit jobs whose workers do these runs.

        Raises Refusal, before anything is submitted, if the cluster can't run one of them.
        """
        configs = [self.runs[i].config for i in todo]
        most = chosen.parameters["array_parallelism"]
        groups = job_groups(configs, chosen.request, workers=chosen.workers, at_a_time=most)
        folder = self.runs[todo[0]].folder.parent / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [{**chosen.parameters, **dataclasses.asdict(group.request)} for group in groups]
        for parameters in wanted:
            check_request(parameters)
            check_accepted(folder, parameters)
        for group, parameters in zip(groups, wanted, strict=True):
            order = taking_order([configs[i] for i in group.runs])
            places = [todo[group.runs[i]] for i in order]
            queue = Queue(runs=tuple(self.runs[i] for i in places), began=time.time())
            work = functools.partial(work_in_process, queue, waits=False, do_run=do_run)
            limit = chosen.max_num_timeout
            submitted = submit(work, group.workers, folder=folder, parameters=parameters, max_num_timeout=limit)
            self._record(submitted, places, queue)

    def _record(self, submitted: Iterator[dict[str, str]], places: Sequence[int], queue: Queue) -> None:
        """Submit the jobs of one queue, and record in the folders of its sweeps which jobs have its runs."""
        jobs: dict[str, str] = {}
        try:
            for logs in submitted:
                jobs |= logs
                log.info("%d jobs submitted for %d runs: %s ... %s", len(logs), len(places), *_ends(logs))
                self._write(jobs, queue)
        except RuntimeError as error:
            if jobs:
                log.error("%d jobs do all %d runs: %s", len(jobs), len(places), error)
                return
            self.refused |= dict.fromkeys(places, str(error))
            log.error("%d runs were not submitted: %s", len(places), error)

    def _write(self, jobs: Mapping[str, str], queue: Queue) -> None:
        for sweep in dict.fromkeys(run.folder.parent for run in queue.runs):
            names = tuple(run.folder.name for run in queue.runs if run.folder.parent == sweep)
            record(sweep, [Submitted(jobs=tuple(jobs), runs=names, time=queue.began, logs=tuple(jobs.values()))])

    def wait(self, *, poll_s: float, cancel: bool) -> None:
        """Return when no job has any of the runs, or when those that have one will not start by themselves."""
        try:
            watch([run.folder.name for run in self.runs], self.look, poll_s=poll_s)
        except KeyboardInterrupt:
            if cancel:
                log.info("cancelled: %d jobs", cancel_jobs(self._states()))
            else:
                log.info("the jobs go on. %s", self.next_commands)
            raise

    def failures(self) -> dict[int, str]:
        """Run -> why it is not done."""
        return {
            i: self.refused.get(i) or to_text(state)
            for i, (run, state) in enumerate(zip(self.runs, self._states(), strict=True))
            if not is_finished(run.key, run.folder)
        }

    def log_detached(self) -> None:
        """Log that the runs are submitted, and the commands that follow them."""
        names = dict.fromkeys(run.config.name for run in self.runs)
        log.info("submitted: sweep %s. %s", ", ".join(names), self.next_commands)

    @property
    def next_commands(self) -> str:
        """The commands that show, stop and wait for these runs."""
        options = (("look", ""), ("stop", " --cancel"), ("wait", " --wait"))
        names = dict.fromkeys(run.config.name for run in self.runs)
        return "; ".join(f"{verb}: sweep status {name}{option}" for name in names for verb, option in options)

    def look(self) -> list[RunState]:
        """Ask Slurm, then the state of each run."""
        self.cluster.update(set().union(*(unfinished_jobs(sweep) for sweep in {r.folder.parent for r in self.runs})))
        return self._states()

    def _states(self) -> list[RunState]:
        by_folder = {
            sweep / state.run: state
            for sweep in {run.folder.parent for run in self.runs}
            for state in run_states(
                sweep, self.cluster, runs=[run.folder.name for run in self.runs if run.folder.parent == sweep]
            )
        }
        return [by_folder[run.folder] for run in self.runs]


def _ends(jobs: Mapping[str, str]) -> tuple[str, str]:
    names = list(jobs)
    return names[0], names[-1]


def watch(names: Sequence[str], look: Callable[[], list[RunState]], *, poll_s: float) -> list[RunState]:
    """The states of the runs when none is live any more; if all live ones are held, they are not waited for."""
    warned: set[str] = set()
    with RunsProgress(names) as progress:
        while True:
            runs = look()
            live = {i: run for i, run in enumerate(runs) if run.state in LIVE}
            for run in live.values():
                if run.state == "held" and run.run not in warned:
                    warned.add(run.run)
                    log.warning("does not start by itself: %s", to_text(run))
            if all(run.state == "held" for run in live.values()):
                break
            reports = {i: run.progress for i, run in live.items() if run.state == "running"}
            progress.show(reports, done=len(runs) - len(live))
            time.sleep(poll_s)
    if all(run.state == "finished" for run in runs):
        return runs
    time.sleep(poll_s)  # a shared file system may show the end of a journal late
    return look()


def cancel_jobs(runs: Sequence[RunState]) -> int:
    """Cancel the jobs of the live runs; the number of jobs."""
    jobs = list(dict.fromkeys(job for run in runs if run.state in LIVE for job in run.jobs))
    for first in range(0, len(jobs), CANCELLED_AT_ONCE):
        ask("scancel", *jobs[first : first + CANCELLED_AT_ONCE])
    return len(jobs)
