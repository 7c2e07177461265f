"""Our launcher for Slurm, which Hydra finds because it is in `hydra_plugins`; the work is in `sweep`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hydra_plugins.sweep_plugin import PointsLauncher, commander, plain

OWN = ("workers", "detach", "on_interrupt", "poll_s", "max_num_timeout")
"""The launcher's parameters that are ours and not Submitit's."""


class SlurmLauncher(PointsLauncher):
    """Launches workers as jobs of a cluster; runs that are done, or that a living job has, are skipped."""

    def __init__(self, **params: Any) -> None:
        from sweep.config.launcher import Jobs, settings

        self.params = dataclasses.asdict(settings(Jobs, plain(params)))
        self.own = {name: self.params.pop(name) for name in OWN}

    def launch_points(self, points: Sequence[Any]) -> dict[int, BaseException]:
        """Submit the runs and wait for them; returns, for each point that is not done, the exception that says why."""
        from sweep.launch.preflight import check_present
        from sweep.planning.job_requests import JobRequest
        from sweep.sweeps.opening import announce, undone
        from sweep.sweeps.slurm import Runs, Submitting

        check_present()
        runs = Runs(undone(points, commander(self)))
        if not runs.runs:
            return {}
        todo = runs.todo()
        announce({runs.runs[i].folder: runs.runs[i].config for i in todo})
        if todo:
            request = JobRequest(**{field.name: self.params[field.name] for field in dataclasses.fields(JobRequest)})
            own = {name: self.own[name] for name in ("workers", "max_num_timeout")}
            runs.submit(todo, Submitting(request=request, parameters=self.params, **own))
        if self.own["detach"]:
            runs.log_detached()
            return {}
        runs.wait(poll_s=self.own["poll_s"], cancel=self.own["on_interrupt"] == "cancel")
        return {runs.runs[i].point: SystemExit(failure) for i, failure in runs.failures().items()}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """As any launcher of ours; refused where the sweeper would not wait for what it asks for."""
        from sweep.domain.errors import Refusal

        if self.own["detach"]:
            raise Refusal("hydra.launcher.detach=true: this hydra/sweeper waits for outcomes; allowed: false")
        return super().launch(job_overrides, initial_job_idx)
