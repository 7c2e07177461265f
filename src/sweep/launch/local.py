"""Many runs on this machine, several at a time, by Submitit's local executor.

Each run has a process of its own, so that none harms another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import submitit

from sweep.system.processes import parse_process, this_process
from sweep.system.progress import RunsProgress, read_progress

PARENT, GPU = "SWEEP_PARENT", "SWEEP_GPU"
POLL_S = 0.5
HOURS = 24 * 365


def run_all(
    work: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    folders: Sequence[Path],
    *,
    workers: int,
    gpus: Sequence[str],
    logs: Path,
) -> list[Any]:
    """Do `work(*arguments[i])` in a process each, `workers` at a time: the results, or exceptions of what failed.

    Each worker has one of the GPUs. Progress is read from `folders[i]`. Ctrl-C interrupts the runs, which record that
    they were interrupted.
    """
    executor = submitit.LocalExecutor(folder=logs / "%j")
    executor.update_parameters(timeout_min=60 * HOURS)
    os.environ[PARENT] = str(this_process())
    jobs: dict[int, submitit.Job[Any]] = {}
    worker_of: dict[int, int] = {}
    try:
        with RunsProgress([folder.name for folder in folders]) as progress:
            while len(jobs) < len(arguments) or worker_of:
                worker_of = {index: worker for index, worker in worker_of.items() if not jobs[index].done()}
                for worker in sorted(set(range(workers)) - set(worker_of.values()))[: len(arguments) - len(jobs)]:
                    index = len(jobs)
                    worker_of[index] = worker
                    os.environ[GPU] = gpus[worker % len(gpus)] if gpus else ""
                    with _no_interrupt():
                        jobs[index] = executor.submit(work, *arguments[index])
                reports = {index: read_progress(folders[index]) for index in worker_of}
                progress.show(reports, done=len(jobs) - len(worker_of))
                time.sleep(POLL_S)
    except BaseException:
        _stop(list(jobs.values()))
        raise
    return [_result(job) for job in jobs.values()]


def _stop(jobs: Sequence[submitit.Job[Any]]) -> None:
    """Ask the runs to stop, and return when they have ended."""
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # Submitit's controller passes it on to the run
    while not all(job.done() for job in jobs):
        time.sleep(POLL_S)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes started within the block ignore the terminal's Ctrl-C: `run_all` tells the runs, once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def begin_work() -> None:
    """In a run's process: take its GPU; end on SIGTERM as on Ctrl-C, and when the launching process is gone."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.pop(GPU, "")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = parse_process(os.environ[PARENT])

    def watch() -> None:
        while not parent.is_gone:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs as CUDA_VISIBLE_DEVICES takes them; empty without an NVIDIA driver."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in chosen.split(",") if name.strip()]
    try:
        query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.check_output(query, text=True, stderr=subprocess.DEVNULL).split()
    except (OSError, subprocess.CalledProcessError):
        return []


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _result(job: submitit.Job[Any]) -> Any:
    """What the job returned, or an exception that says how its process ended."""
    try:
        return job.result()
    except Exception as error:
        tail = (job.stderr() or "").strip().splitlines()[-1:]
        return RuntimeError(
            f"the run's process ended without a result: {' '.join(tail) or error}; log: {job.paths.stderr}"
        )
