"""The story of a sweep on a cluster: what is left to do is packed, refused or submitted, then watched until it ends."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config import RunConfig
from sweep.launch.cluster import ask
from sweep.launch.job_log import FOLDER, record
from sweep.launch.local import Watch
from sweep.launch.preflight import check_accepted, check_request
from sweep.launch.slurm import submit
from sweep.planning.job_packing import JobRequest, PackedJob, packed
from sweep.sweeps.run_states import LIVE, Cluster, Standing, jobs_left, standings, to_text
from sweep.tracking.background import overlapping_runs

log = logging.getLogger(__name__)

CANCELLED_AT_ONCE = 500
"""Jobs named to one scancel."""


class Runs:
    """The points of one command, each with its folder; in Slurm's hands once they are submitted."""

    def __init__(
        self, configs: Sequence[RunConfig], folders: Sequence[Path], is_done: Callable[[RunConfig, Path], bool]
    ) -> None:
        self.configs = configs
        self.folders = [folder.absolute() for folder in folders]
        self.is_done = is_done
        self.cluster = Cluster()
        self.refused: dict[int, str] = {}
        """Points that sbatch did not take, and its words."""

    def todo(self) -> list[int]:
        """Points to submit: not done, and not in the hands of a job, or of a process, that is alive."""
        stands = self._look()
        left = [i for i, config in enumerate(self.configs) if not self.is_done(config, self.folders[i])]
        alone = [i for i in left if stands[i].state in LIVE]
        for i in alone:
            log.info("left alone: %s", to_text(stands[i]))
        return [i for i in left if i not in alone]

    def submit(
        self,
        work: Callable[..., Any],
        arguments: Mapping[int, tuple[Any, ...]],
        chosen: JobRequest,
        parameters: Mapping[str, Any],
        own: Mapping[str, Any],
    ) -> None:
        """Submit these points, `work(*arguments[i])` each; Refusal, before any is, of what the cluster can't run."""
        places = list(arguments)
        configs = [self.configs[i] for i in places]
        packs = [
            dataclasses.replace(pack, runs=tuple(places[i] for i in pack.runs))
            for pack in packed(configs, chosen, pack=own["pack"], pack_min=own["pack_min"])
        ]
        folder = self.folders[places[0]].parent / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        arrays = [(request, list(of)) for request, of in itertools.groupby(packs, key=lambda pack: pack.request)]
        asked = [{**parameters, **dataclasses.asdict(request)} for request, _ in arrays]
        for wanted in asked:
            check_request(wanted)
            check_accepted(folder, wanted)
        for wanted, (_, of) in zip(asked, arrays, strict=True):
            self._submit(work, of, arguments, folder=folder, parameters=wanted, limit=own["max_num_timeout"])

    def _submit(
        self,
        work: Callable[..., Any],
        packs: Sequence[PackedJob],
        arguments: Mapping[int, tuple[Any, ...]],
        *,
        folder: Path,
        parameters: Mapping[str, Any],
        limit: int,
    ) -> None:
        done = 0
        try:
            runs = [[arguments[i] for i in pack.runs] for pack in packs]
            for jobs in submit(
                work, runs, around=overlapping_runs, folder=folder, parameters=parameters, max_num_timeout=limit
            ):
                for job, pack in zip(jobs, packs[done:], strict=False):
                    for sweep, of in itertools.groupby(pack.runs, key=lambda i: self.folders[i].parent):
                        record(sweep, [dataclasses.replace(job, runs=tuple(self.folders[i].name for i in of))])
                done += len(jobs)
                log.info("%d jobs submitted: %s ... %s", len(jobs), jobs[0].job, jobs[-1].job)
        except RuntimeError as error:
            self.refused |= {i: str(error) for pack in packs[done:] for i in pack.runs}
            log.error("%d runs were not submitted: %s", sum(len(pack.runs) for pack in packs[done:]), error)

    def wait(self, *, poll_s: float, cancel: bool) -> None:
        """Return when no run is in a job's hands any more, or when those that are will not start by themselves."""
        try:
            watch([folder.name for folder in self.folders], self._look, poll_s=poll_s)
        except KeyboardInterrupt:
            if cancel:
                log.info("cancelled: %d jobs", cancel_jobs(self._standings()))
            else:
                log.info("the jobs go on. %s", _doors(self.names))
            raise

    def failures(self) -> list[str | None]:
        """Why each point is not done; None where it is."""
        stands = self._standings()
        return [
            None if self.is_done(config, folder) else self.refused.get(i) or to_text(stands[i])
            for i, (config, folder) in enumerate(zip(self.configs, self.folders, strict=True))
        ]

    @property
    def names(self) -> list[str]:
        """The sweeps that the points belong to."""
        return list(dict.fromkeys(config.name for config in self.configs))

    def say_detached(self) -> None:
        """How to go on from here."""
        log.info("submitted: sweep %s. %s", ", ".join(self.names), _doors(self.names))

    def _look(self) -> list[Standing]:
        self.cluster.update(set().union(*(jobs_left(sweep) for sweep in self._sweeps())))
        return self._standings()

    def _standings(self) -> list[Standing]:
        of = {sweep: {folder.name for folder in self.folders if folder.parent == sweep} for sweep in self._sweeps()}
        found = {(sweep, s.run): s for sweep, names in of.items() for s in standings(sweep, self.cluster, runs=names)}
        return [found[folder.parent, folder.name] for folder in self.folders]

    def _sweeps(self) -> list[Path]:
        return list(dict.fromkeys(folder.parent for folder in self.folders))


def watch(names: Sequence[str], look: Callable[[], list[Standing]], *, poll_s: float) -> list[Standing]:
    """How the runs stand when none of them is live; a run that Slurm holds back is waited for only beside others."""
    warned: set[str] = set()

    def again() -> list[Standing]:
        time.sleep(poll_s)  # a shared file system may show the end of a journal late
        return look()

    with Watch(names) as shown:
        while True:
            now = look()
            live = [i for i, standing in enumerate(now) if standing.state in LIVE]
            for standing in now:
                if standing.state == "held" and standing.run not in warned:
                    warned.add(standing.run)
                    log.warning("does not start by itself: %s", to_text(standing))
            if all(now[i].state == "held" for i in live):
                return now if all(standing.state == "finished" for standing in now) else again()
            running = {i: now[i].progress for i in live if now[i].state == "running"}
            shown.show(running, done=len(now) - len(live))
            time.sleep(poll_s)


def cancel_jobs(found: Sequence[Standing]) -> int:
    """Cancel the jobs of the live ones; how many."""
    jobs = list(dict.fromkeys(standing.job for standing in found if standing.job and standing.state in LIVE))
    for first in range(0, len(jobs), CANCELLED_AT_ONCE):
        ask("scancel", *jobs[first : first + CANCELLED_AT_ONCE])
    return len(jobs)


def _doors(names: Sequence[str]) -> str:
    options = (("look", ""), ("stop", " --cancel"), ("wait", " --wait"))
    return "; ".join(f"{verb}: sweep status {name}{option}" for name in names for verb, option in options)
