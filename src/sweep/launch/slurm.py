"""Jobs of a Slurm cluster: Submitit writes the batch script, pickles the work and calls sbatch."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from submitit import AutoExecutor, JobEnvironment
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from sweep.launch.cluster import max_array_size
from sweep.launch.in_job import work_in_job

STOPS = "stops"


def executor(folder: Path, parameters: Mapping[str, Any]) -> AutoExecutor:
    """An executor with these parameters of Submitit's; those that are None are left to Slurm.

    Raises ValueError or NameError if Submitit does not take them.
    """
    python = shlex.quote(sys.executable)
    chosen = {name: value for name, value in parameters.items() if value is not None}
    if teardown := chosen.pop("teardown", None):  # as the script's last lines they would hide how the run ended
        chosen["setup"] = [*chosen.get("setup", []), f"trap {shlex.quote('; '.join(teardown))} EXIT"]
    if not chosen.get("use_srun", True):  # the run takes the script's place, so that it gets Slurm's signals
        python = f"exec {python}"
        signal = f"B:USR2@{chosen['signal_delay_s']}"
        chosen["additional_parameters"] = {"signal": signal, **chosen.get("additional_parameters", {})}
    submitting = AutoExecutor(folder / "%j", cluster="slurm", slurm_python=python)
    submitting.update_parameters(**{f"slurm_{name}": value for name, value in chosen.items()})
    return submitting


def submit(
    work: Callable[[Callable[[], object]], Mapping[int, Exception]],
    number: int,
    *,
    folder: Path,
    parameters: Mapping[str, Any],
    max_num_timeout: int,
) -> Iterator[dict[str, str]]:
    """Submit so many jobs that do `work`, as `work_in_job` does it.

    They go out in arrays of at most the cluster's largest size; yields each array's jobs, with their logs, once it is
    submitted. Raises RuntimeError with sbatch's message if it takes none.
    """
    largest = max_array_size()
    sizes = [min(largest, number - first) for first in range(0, number, largest)]
    log = "stdout" if parameters["stderr_to_stdout"] else "stderr"
    job = functools.partial(_job, work, folder, max_num_timeout)
    for size, share in zip(sizes, _shares(parameters["array_parallelism"], len(sizes)), strict=True):
        submitting = executor(folder, {**parameters, "array_parallelism": share})
        try:
            jobs = submitting.submit_array([job] * size)
        except (FailedJobError, FailedSubmissionError) as error:
            raise RuntimeError(f"sbatch takes no job: {_last_line(error)}") from error
        yield {job.job_id: str(getattr(job.paths, log)) for job in jobs}


def _job(work: Callable[[Callable[[], object]], Mapping[int, Exception]], folder: Path, max_num_timeout: int) -> None:
    paths = JobPaths(folder / "%j", job_id=JobEnvironment().job_id)
    work_in_job(work, stops=paths.folder / STOPS, max_num_timeout=max_num_timeout)


def _shares(parallelism: int, number: int) -> list[int]:
    """How many jobs of each of `number` arrays may run at a time: `parallelism` in all, but at least one of each."""
    return [max(1, parallelism // number + (i < parallelism % number)) for i in range(number)]


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    of_sbatch = [line for line in lines if "sbatch" in line]
    return (of_sbatch or lines)[-1].strip()
