"""Many runs on this machine: Submitit's local executor, so many at a time; a process a run, so none harms another."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sweep.lease import born
from sweep.progress import read_progress

log = logging.getLogger(__name__)

PARENT = "SWEEP_PARENT"
POLL_S = 0.5
LOG_S = 30.0
HOURS = 24 * 365


def run_all(
    work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], folders: Sequence[Path], *, workers: int, logs: Path
) -> list[Any]:
    """`work(*arguments[i])` in a process each, `workers` at a time: results, or the exception of what failed.

    Progress is read from `folders[i]`. Ctrl-C interrupts the runs, which record that they were.
    """
    executor = submitit.LocalExecutor(folder=logs / "%j")
    executor.update_parameters(timeout_min=60 * HOURS)
    jobs: dict[int, submitit.Job[Any]] = {}
    os.environ[PARENT] = f"{os.getpid()}"
    waiting = list(range(len(arguments)))
    try:
        with Watch([folder.name for folder in folders]) as watch:
            while waiting or not all(job.done() for job in jobs.values()):
                running = [index for index, job in jobs.items() if not job.done()]
                while waiting and len(running) < workers:
                    index = waiting.pop(0)
                    jobs[index] = executor.submit(work, *arguments[index])
                    running.append(index)
                watch.show({index: read_progress(folders[index]) for index in running}, done=len(jobs) - len(running))
                time.sleep(POLL_S)
    except BaseException:
        for job in jobs.values():
            job.cancel()
        for job in jobs.values():
            while not job.done():
                time.sleep(POLL_S)
        raise
    return [_result(jobs[index]) for index in range(len(arguments))]


def stop_with_parent() -> None:
    """In a worker: stop, as with Ctrl-C, when the process that launched it is gone."""
    parent = int(os.environ[PARENT])

    def watch() -> None:
        while born(parent) is not None:
            time.sleep(1)
        os.kill(os.getpid(), 2)

    threading.Thread(target=watch, daemon=True).start()


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

    def show(self, running: Mapping[int, tuple[str, int, int] | None], *, done: int) -> None:
        """Draw the state of the running ones and the number that have ended."""
        self.bars.update(self.total, completed=done)
        for index in self.tasks.keys() - running.keys():
            self.bars.remove_task(self.tasks.pop(index))
        for index, state in running.items():
            if index not in self.tasks:
                self.tasks[index] = self.bars.add_task("", total=None)
            stage, completed, total = state or (f"{self.names[index]}: starting or waiting", 0, None)
            self.bars.update(self.tasks[index], description=stage, completed=completed, total=total)
        if self.bars.disable and time.monotonic() - self.logged >= LOG_S:
            self.logged = time.monotonic()
            stages = ", ".join(f"{s[0]} {s[1]}/{s[2]}" for s in running.values() if s) or "starting"
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
