"""Workers on this machine: processes that Submitit starts, and that are replaced if they are killed."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import submitit

from sweep.system.processes import parse_process, this_process
from sweep.system.progress import RunsProgress, read_progress

log = logging.getLogger(__name__)

PARENT, GPU = "SWEEP_PARENT", "SWEEP_GPU"
POLL_S = 0.5
HOURS = 24 * 365


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen of the runs that the workers share."""

    running: Mapping[int, Path]
    """Number of a run that is being done -> its folder."""
    left: int
    """Runs without an outcome, the running ones included."""
    any_free: bool
    """Whether there is a run that nobody has begun."""


class Shared(Protocol):
    """The runs that the workers share, as the process sees them that has started the workers."""

    names: Sequence[str]
    """Of all runs."""

    def look(self) -> Look:
        """How far they are."""

    def ended(self, result: Any) -> None:
        """A worker has ended with this result."""


class WorkersFailed(RuntimeError):
    """Workers ended one after another, and none of them began a run."""


def run_workers(work: Callable[[], Any], runs: Shared, *, workers: int, gpus: Sequence[str], logs: Path) -> None:
    """Do `work()` in so many processes at a time, until they have ended and no run is free.

    A process that ended without a result, as it was killed, is replaced while a run is free. Each has one of the GPUs.
    Ctrl-C interrupts the runs, which record that they were interrupted.
    """
    pool = _Pool(work, runs, gpus=gpus, logs=logs)
    barren, least = 0, len(runs.names)
    try:
        with RunsProgress(runs.names) as progress:
            while True:
                seen = runs.look()
                barren, least = (barren, least) if seen.left >= least else (0, seen.left)
                barren += pool.clear()
                if not pool.at_work and not seen.any_free:
                    return
                if barren > 2 * workers:
                    raise WorkersFailed(f"{barren} workers ended one after another: {pool.last_words}")
                if seen.any_free:
                    pool.fill(min(workers, seen.left))
                reports = {i: read_progress(folder) for i, folder in seen.running.items()}
                progress.show(reports, done=len(runs.names) - seen.left)
                time.sleep(POLL_S)
    except BaseException:
        _stop([*pool.at_work.values()])
        raise


class _Pool:
    """The processes at work, by their places from 0."""

    def __init__(self, work: Callable[[], Any], runs: Shared, *, gpus: Sequence[str], logs: Path) -> None:
        self.work, self.runs, self.gpus = work, runs, gpus
        self.at_work: dict[int, submitit.Job[Any]] = {}
        self.last_words = ""
        self._executor = submitit.LocalExecutor(folder=logs / "%j")
        self._executor.update_parameters(timeout_min=60 * HOURS)
        os.environ[PARENT] = str(this_process())

    def clear(self) -> int:
        """Take out those that have ended; their number."""
        ended = [place for place, job in self.at_work.items() if job.done()]
        for place in ended:
            job = self.at_work.pop(place)
            self.last_words = _ending(job)
            try:
                result = job.result()
            except Exception:
                log.warning("a worker's process ended without a result: %s", self.last_words)
            else:
                self.runs.ended(result)
        return len(ended)

    def fill(self, number: int) -> None:
        """Start processes until there are so many."""
        for place in sorted(set(range(number)) - self.at_work.keys()):
            os.environ[GPU] = self.gpus[place % len(self.gpus)] if self.gpus else ""
            with _no_interrupt():
                self.at_work[place] = self._executor.submit(self.work)


def _stop(jobs: Sequence[submitit.Job[Any]]) -> None:
    """Ask the workers to stop, and return when they have ended."""
    for job in jobs:
        if not job.done():
            os.kill(int(job.job_id), signal.SIGTERM)  # Submitit's controller passes it on to the worker
    while not all(job.done() for job in jobs):
        time.sleep(POLL_S)


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes started within the block ignore the terminal's Ctrl-C: `run_workers` tells the workers, once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def begin_work() -> None:
    """In a worker's process: take its GPU; end on SIGTERM as on Ctrl-C, and when the launching process is gone."""
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


def _ending(job: submitit.Job[Any]) -> str:
    """The last line of a process' log, and the log's path."""
    tail = (job.stderr() or "").strip().splitlines()[-1:]
    return f"{' '.join(tail)}; log {job.paths.stderr}"
