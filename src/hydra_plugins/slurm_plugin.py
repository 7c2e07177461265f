"""Glue between Hydra, which takes plugins from `hydra_plugins` alone, and a Slurm cluster; the work is in `sweep`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from sweep.domain.errors import Refusal

log = logging.getLogger(__name__)

OWN = ("pack", "pack_min", "detach", "on_interrupt", "poll_s", "max_num_timeout")
"""Of the launcher's parameters those that are not Submitit's."""


class SlurmLauncher(BaseSubmititLauncher):
    """Runs as jobs of a cluster: what is done is skipped, what a job has is left to it, the rest is submitted."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.own = {name: self.params.pop(name) for name in OWN}
        pack = self.own["pack"]
        if pack != "auto" and not (isinstance(pack, int) and pack >= 1):
            raise Refusal(f"hydra.launcher.pack={pack}: must be at least 1, or auto")
        if self.own["on_interrupt"] not in ("leave", "cancel"):
            raise Refusal(f"hydra.launcher.on_interrupt={self.own['on_interrupt']}: must be leave or cancel")

    def __call__(self, *arguments: Any) -> JobReturn:
        """One run, in its job; its failure is raised."""
        found = super().__call__(*arguments)
        if found.status != JobStatus.COMPLETED:
            raise found._return_value
        return found

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """All runs; the returned outcomes hold what failed and why."""
        from hydra_plugins.sweep_plugin import _typed, done_before, planned
        from sweep.launch.preflight import check_present
        from sweep.sweeps.closing import close
        from sweep.sweeps.opening import announce
        from sweep.sweeps.run_folders import expected_folder, is_done
        from sweep.sweeps.slurm import Runs

        check_present()
        if self.own["detach"] and not planned(self):
            raise Refusal("hydra.launcher.detach=true: this hydra/sweeper waits for outcomes; allowed: false")
        points = _typed(self, job_overrides)
        folders = [expected_folder(point) for point in points]
        runs = Runs(points, folders, is_done)
        todo = runs.todo()
        announce([points[i] for i in todo])
        self._submit(runs, todo, job_overrides)
        if self.own["detach"]:
            runs.say_detached()
            return [JobReturn(status=JobStatus.COMPLETED) for _ in points]
        runs.wait(poll_s=self.own["poll_s"], cancel=self.own["on_interrupt"] == "cancel")
        if not planned(self):
            close(points)
        failed = zip(folders, runs.failures(), strict=True)
        return [done_before(folder) if failure is None else _job_return(failure) for folder, failure in failed]

    def _submit(self, runs: Any, todo: list[int], job_overrides: Sequence[Sequence[str]]) -> None:
        from sweep.planning.job_packing import JobRequest

        if not todo:
            return
        chosen = JobRequest(**{field.name: self.params[field.name] for field in dataclasses.fields(JobRequest)})
        assert self.config is not None
        state = Singleton.get_state()
        arguments = {i: (list(job_overrides[i]), "hydra.sweep.dir", i, str(i), state) for i in todo}
        runs.submit(self, arguments, chosen, self.params, self.own)


def _job_return(failure: str) -> JobReturn:
    return JobReturn(_return_value=SystemExit(failure), status=JobStatus.FAILED)
