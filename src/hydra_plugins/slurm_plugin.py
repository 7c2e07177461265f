"""Our launcher for Slurm, which Hydra finds because it is in `hydra_plugins`; the work is in `sweep`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

from sweep.domain.errors import Refusal

OWN = ("pack", "pack_min", "detach", "on_interrupt", "poll_s", "max_num_timeout")
"""The launcher's parameters that are ours and not Submitit's."""


class SlurmLauncher(BaseSubmititLauncher):
    """Launches runs as jobs of a cluster; runs that are done, or that a living job has, are skipped."""

    def __init__(self, **params: Any) -> None:
        from hydra_plugins.sweep_plugin import plain
        from sweep.config.launcher import Jobs, settings

        chosen = dataclasses.asdict(settings(Jobs, plain(params)))
        super().__init__(**chosen)
        self.own = {name: self.params.pop(name) for name in OWN}

    def __call__(self, *arguments: Any) -> JobReturn:
        """Do one run, in its job; raise its failure."""
        result = super().__call__(*arguments)
        _ = result.return_value  # raises the failure of a failed run
        return result

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the runs and wait for them; their results, or the reasons of those that are not finished."""
        from hydra_plugins.sweep_plugin import composer, job_arguments, job_return, result_of_done, sweeper_is_ours
        from sweep.launch.preflight import check_present
        from sweep.planning.job_packing import JobRequest
        from sweep.planning.names import run_identity
        from sweep.sweeps.closing import close
        from sweep.sweeps.opening import announce
        from sweep.sweeps.run_folders import expected_folder, is_done
        from sweep.sweeps.slurm import Runs

        check_present()
        if self.own["detach"] and not sweeper_is_ours(self):
            raise Refusal("hydra.launcher.detach=true: this hydra/sweeper waits for outcomes; allowed: false")
        configs = [*map(composer(self), job_overrides)]
        folders = [expected_folder(run_identity(config)) for config in configs]
        runs = Runs(configs, folders, is_done)
        todo = runs.todo()
        announce([configs[i] for i in todo])
        if todo:
            chosen = JobRequest(**{field.name: self.params[field.name] for field in dataclasses.fields(JobRequest)})
            runs.submit(self, {i: job_arguments(job_overrides, i) for i in todo}, chosen, self.params, self.own)
        if self.own["detach"]:
            runs.log_detached()
            return [JobReturn(status=JobStatus.COMPLETED) for _ in configs]
        runs.wait(poll_s=self.own["poll_s"], cancel=self.own["on_interrupt"] == "cancel")
        if not sweeper_is_ours(self):
            close(configs)
        return [
            result_of_done(folder) if failure is None else job_return(SystemExit(failure), JobStatus.FAILED)
            for folder, failure in zip(folders, runs.failures(), strict=True)
        ]
