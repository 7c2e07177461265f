"""Jobs of a Slurm cluster: Submitit writes the batch script, pickles the work and calls sbatch."""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths
from submitit.slurm.slurm import SlurmExecutor

from sweep.launch.cluster import max_array_size
from sweep.launch.in_job import do_all
from sweep.launch.job_log import Submitted

STOPS = "stops"


class Executor(SlurmExecutor):
    """Submitit's, whose script ends as its work ends, and whose work hears the signals also without srun."""

    @property
    def _submitit_command_str(self) -> str:
        command = super()._submitit_command_str
        return command if self.parameters.get("use_srun", True) else f"exec {command}"


def executor(folder: Path, parameters: Mapping[str, Any]) -> Executor:
    """An executor with Submitit's parameters, those that are None left to Slurm."""
    found = Executor(folder / "%j")
    chosen = {name: value for name, value in parameters.items() if value is not None}
    if teardown := chosen.pop("teardown", None):  # as the script's last words they would hide how the work ended
        chosen["setup"] = [*chosen.get("setup", []), f"trap {shlex.quote('; '.join(teardown))} EXIT"]
    if not chosen.get("use_srun", True):
        delay = chosen["signal_delay_s"]
        chosen["additional_parameters"] = {"signal": f"B:USR2@{delay}", **chosen.get("additional_parameters", {})}
    found.update_parameters(**found._convert_parameters(chosen))
    return found


def submit(
    work: Callable[..., Any],
    packs: Sequence[Sequence[tuple[Any, ...]]],
    *,
    around: Callable[[], AbstractContextManager[None]],
    folder: Path,
    parameters: Mapping[str, Any],
    max_num_timeout: int,
) -> Iterator[list[Submitted]]:
    """A job a pack, which does `work(*run)` for each of its runs; arrays of as many as the cluster takes at a time.

    Yields each array when it is submitted. RuntimeError with sbatch's own words where it takes none.
    """
    chunks = list(_chunks(len(packs), max_array_size()))
    shares = _shares(parameters["array_parallelism"], len(chunks))
    for chunk, share in zip(chunks, shares, strict=True):
        submitting = executor(folder, {**parameters, "array_parallelism": share})
        jobs = [functools.partial(_job, work, packs[i], folder, max_num_timeout, around) for i in chunk]
        try:
            found = submitting.submit_array(jobs)
        except (FailedJobError, FailedSubmissionError) as error:
            raise RuntimeError(f"sbatch takes no job: {_last_line(error)}") from error
        now = time.time()
        log = "stdout" if parameters["stderr_to_stdout"] else "stderr"
        yield [Submitted(job=job.job_id, runs=(), time=now, log=str(getattr(job.paths, log))) for job in found]


def _job(
    work: Callable[..., Any],
    pack: Sequence[tuple[Any, ...]],
    folder: Path,
    max_num_timeout: int,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,  # jobs of an earlier version have none
) -> None:
    """What runs in the job."""
    from submitit import JobEnvironment

    paths = JobPaths(folder / "%j", job_id=JobEnvironment().job_id)
    do_all(work, pack, around=around, stops=paths.folder / STOPS, max_num_timeout=max_num_timeout)


def _chunks(number: int, most: int) -> Iterator[range]:
    for first in range(0, number, most):
        yield range(first, min(number, first + most))


def _shares(parallelism: int, number: int) -> list[int]:
    """How many elements of each of so many arrays may run at a time: in all `parallelism`, or one each."""
    return [max(1, parallelism // number + (i < parallelism % number)) for i in range(number)]


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if "sbatch" in line]
    return (said or lines)[-1].strip()
