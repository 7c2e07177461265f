"""A sweep on a cluster: the runs that are not done are packed into jobs, submitted, and watched until they end."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config import RunConfig
from sweep.launch.cluster import ask
from sweep.launch.job_log import FOLDER, Submitted, record
from sweep.launch.preflight import check_accepted, check_request
from sweep.launch.slurm import submit
from sweep.planning.job_packing import JobRequest, PackedJob, packed
from sweep.sweeps.run_states import LIVE, Cluster, RunState, run_states, to_text, unfinished_jobs
from sweep.system.progress import RunsProgress
from sweep.tracking.background import overlapping_runs

log = logging.getLogger(__name__)

CANCELLED_AT_ONCE = 500
"""Number of jobs that one scancel gets."""


class Runs:
    """The runs of one command, each with its folder, and their jobs once they are submitted."""

    def __init__(
        self, configs: Sequence[RunConfig], folders: Sequence[Path], is_done: Callable[[RunConfig, Path], bool]
    ) -> None:
        self.configs = configs
        self.folders = [folder.absolute() for folder in folders]
        self.is_done = is_done
        self.cluster = Cluster()
        self.refused: dict[int, str] = {}
        """Runs that sbatch did not take, with its message."""

    def todo(self) -> list[int]:
        """The runs to submit: not done, and no living job or process has them."""
        states = self.look()
        todo = []
        for i, config in enumerate(self.configs):
            if self.is_done(config, self.folders[i]):
                continue
            if states[i].state in LIVE:
                log.info("left alone: %s", to_text(states[i]))
            else:
                todo.append(i)
        return todo

    def submit(
        self,
        work: Callable[..., Any],
        arguments: Mapping[int, tuple[Any, ...]],
        chosen: JobRequest,
        parameters: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        """Submit `work(*arguments[i])` for each of these runs.

        Raises Refusal, before anything is submitted, if the cluster can't run one of them.
        """
        places = list(arguments)
        packs = [
            dataclasses.replace(pack, runs=tuple(places[i] for i in pack.runs))
            for pack in packed([self.configs[i] for i in places], chosen, pack=own["pack"], pack_min=own["pack_min"])
        ]
        folder = self.folders[places[0]].parent / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        arrays = [
            ({**parameters, **dataclasses.asdict(request)}, list(group))
            for request, group in itertools.groupby(packs, key=lambda pack: pack.request)
        ]
        for wanted, _ in arrays:
            check_request(wanted)
            check_accepted(folder, wanted)
        for wanted, group in arrays:
            jobs = [[arguments[i] for i in pack.runs] for pack in group]
            limit = own["max_num_timeout"]
            submitted = submit(
                work, jobs, around=overlapping_runs, folder=folder, parameters=wanted, max_num_timeout=limit
            )
            self._record(submitted, group)

    def _record(self, submitted: Iterator[list[Submitted]], packs: Sequence[PackedJob]) -> None:
        """Submit these packs, and record in the folders of their sweeps which job has which runs."""
        left = list(packs)
        try:
            for jobs in submitted:
                for job, pack in zip(jobs, left, strict=False):
                    for sweep, group in itertools.groupby(pack.runs, key=lambda i: self.folders[i].parent):
                        record(sweep, [dataclasses.replace(job, runs=tuple(self.folders[i].name for i in group))])
                left = left[len(jobs) :]
                log.info("%d jobs submitted: %s ... %s", len(jobs), jobs[0].job, jobs[-1].job)
        except RuntimeError as error:
            refused = {i: str(error) for pack in left for i in pack.runs}
            self.refused |= refused
            log.error("%d runs were not submitted: %s", len(refused), error)

    def wait(self, *, poll_s: float, cancel: bool) -> None:
        """Return when no job has any of the runs, or when those that have one will not start by themselves."""
        try:
            watch([folder.name for folder in self.folders], self.look, poll_s=poll_s)
        except KeyboardInterrupt:
            if cancel:
                log.info("cancelled: %d jobs", cancel_jobs(self._states()))
            else:
                log.info("the jobs go on. %s", self.next_commands)
            raise

    def failures(self) -> list[str | None]:
        """Why each run is not done; None for a run that is."""
        states = self._states()
        return [
            None if self.is_done(config, folder) else self.refused.get(i) or to_text(states[i])
            for i, (config, folder) in enumerate(zip(self.configs, self.folders, strict=True))
        ]

    def log_detached(self) -> None:
        """Log that the runs are submitted, and the commands that follow them."""
        names = dict.fromkeys(config.name for config in self.configs)
        log.info("submitted: sweep %s. %s", ", ".join(names), self.next_commands)

    @property
    def next_commands(self) -> str:
        """The commands that show, stop and wait for these runs."""
        options = (("look", ""), ("stop", " --cancel"), ("wait", " --wait"))
        names = dict.fromkeys(config.name for config in self.configs)
        return "; ".join(f"{verb}: sweep status {name}{option}" for name in names for verb, option in options)

    def look(self) -> list[RunState]:
        """Ask Slurm, then the state of each run."""
        self.cluster.update(set().union(*(unfinished_jobs(sweep) for sweep in {f.parent for f in self.folders})))
        return self._states()

    def _states(self) -> list[RunState]:
        by_folder = {
            sweep / state.run: state
            for sweep in {folder.parent for folder in self.folders}
            for state in run_states(sweep, self.cluster, runs=[f.name for f in self.folders if f.parent == sweep])
        }
        return [by_folder[folder] for folder in self.folders]


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
    jobs = list(dict.fromkeys(run.job for run in runs if run.job and run.state in LIVE))
    for first in range(0, len(jobs), CANCELLED_AT_ONCE):
        ask("scancel", *jobs[first : first + CANCELLED_AT_ONCE])
    return len(jobs)
