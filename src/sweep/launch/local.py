"""Many runs on this machine: Submitit's local executor, so many at a time; a process a run, so none harms another."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sweep.system.processes import born
from sweep.system.progress import Report, read_progress

log = logging.getLogger(__name__)

PARENT, GPU = "SWEEP_PARENT", "SWEEP_GPU"
POLL_S = 0.5
LOG_S = 30.0
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
    """`work(*arguments[i])` in a process each, `workers` at a time: results, or the exception of what failed.

    The workers take turns at the GPUs, one each. Progress is read from `folders[i]`. Ctrl-C interrupts the runs, which
    record that they were.
    """
    executor = submitit.LocalExecutor(folder=logs / "%j")
    executor.update_parameters(timeout_min=60 * HOURS)
    jobs: dict[int, submitit.Job[Any]] = {}
    os.environ[PARENT] = f"{os.getpid()}"
    waiting, free = list(range(len(arguments))), list(range(workers))
    slots: dict[int, int] = {}
    try:
        with Watch([folder.name for folder in folders]) as watch:
            while waiting or slots:
                for index in [index for index in slots if jobs[index].done()]:
                    free.append(slots.pop(index))
                while waiting and free:
                    index = waiting.pop(0)
                    slots[index] = min(free)
                    free.remove(slots[index])
                    os.environ[GPU] = gpus[slots[index] % len(gpus)] if gpus else ""
                    with _no_interrupt():
                        jobs[index] = executor.submit(work, *arguments[index])
                watch.show({index: read_progress(folders[index]) for index in slots}, done=len(jobs) - len(slots))
                time.sleep(POLL_S)
    except BaseException:
        for job in jobs.values():
            if not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)  # Submitit's controller hands it on to the run
        while not all(job.done() for job in jobs.values()):
            time.sleep(POLL_S)
        raise
    return [_result(jobs[index]) for index in range(len(arguments))]


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """What starts within ignores the terminal's Ctrl-C: the runs hear of it from here, once."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def begin_work() -> None:
    """In a worker: take its GPU, end on SIGTERM as on Ctrl-C, and also when the process that launched it is gone."""
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.pop(GPU, "")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while born(parent) is not None:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def visible_gpus() -> list[str]:
    """Names of this machine's GPUs as CUDA_VISIBLE_DEVICES takes them; none where there is no NVIDIA driver."""
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


class Watch:
    """What the runs are doing: bars in a terminal, a line now and then in a log."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        console = Console(file=sys.stderr)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.total = self.bars.add_task("runs", total=len(names))
        self.tasks: dict[int, TaskID] = {}
        self.logged = time.monotonic()

    def show(self, running: Mapping[int, Report | None], *, done: int) -> None:
        """Draw the state of the running ones and the number that have ended."""
        self.bars.update(self.total, completed=done)
        for index in self.tasks.keys() - running.keys():
            self.bars.remove_task(self.tasks.pop(index))
        for index, state in running.items():
            if index not in self.tasks:
                self.tasks[index] = self.bars.add_task("", total=None)
            stage, completed, total = state[:3] if state else (f"{self.names[index]}: starting or waiting", 0, None)
            self.bars.update(self.tasks[index], description=stage, completed=completed, total=total)
        if self.bars.disable and time.monotonic() - self.logged >= LOG_S:
            self.logged = time.monotonic()
            stages = ", ".join(f"{s.stage} {s.done}/{s.total}" for s in running.values() if s) or "starting"
            log.info("%d of %d runs done; %s", done, len(self.names), stages)

    def __enter__(self) -> Watch:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()


def _result(job: submitit.Job[Any]) -> Any:
    """What the job returned, or an exception that says how its process ended."""
    try:
        return job.result()
    except Exception as error:
        tail = (job.stderr() or "").strip().splitlines()[-1:]
        return RuntimeError(
            f"the run's process ended without a result: {' '.join(tail) or error}; log: {job.paths.stderr}"
        )
