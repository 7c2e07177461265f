"""Light runs on the cluster, launched as a command does it, and what the tests see of them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from sweep.commands.main import CONF
from sweep.config import RunConfig
from sweep.launch.cluster import ask
from sweep.planning.controls import Point
from sweep.planning.job_requests import JobRequest
from sweep.planning.names import run_key
from sweep.sweeps.opening import queued_run
from sweep.sweeps.run_folders import folder_of
from sweep.sweeps.run_states import RunState
from sweep.sweeps.slurm import Runs, Submitting
from sweep.tracking import FILE
from tests.composing import composed
from tests.slurm.light import light

ROOT = Path(__file__).parents[2]
START = Path(__file__).with_name("start_slurm.sh")
ASKED = {"name": "light", "timeout_min": 5, "mem_gb": 0.2, "signal_delay_s": 60}
SHORT, LONG = 4, 200
"""Updates of a light run, a tenth of a second each."""


def config_of(seed: int) -> RunConfig:
    """The point of a light run; what it says but its seed is of no consequence."""
    return composed("name=light", f"seed={seed}")


class Sweep:
    """Light runs on the cluster under one name; again(), as the same command typed once more."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)
        self.flag = home / "faulty"
        self.flag.touch()
        conf = yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text())
        own = ("workers", "detach", "on_interrupt", "poll_s", "max_num_timeout")
        self.own = {name: conf.pop(name) for name in own}
        del conf["_target_"]
        self.parameters = {**conf, **ASKED}

    def launch(self, faults: list[str], updates: int = SHORT, first: int = 0, **changed: Any) -> Runs:
        """A job for each run, or as many as `workers` says."""
        points = [Point((), config := config_of(first + i), run_key(config)) for i in range(len(faults))]
        folders = [folder_of(point.place).absolute() for point in points]
        runs = Runs(
            [
                queued_run(i, point, folder, lambda words: "")
                for i, (point, folder) in enumerate(zip(points, folders, strict=True))
            ]
        )
        parameters = self.parameters | {k: v for k, v in changed.items() if k not in self.own}
        own = self.own | {k: v for k, v in changed.items() if k in self.own}
        chosen = JobRequest(
            nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1,
            mem_gb=parameters["mem_gb"], timeout_min=parameters["timeout_min"],
        )  # fmt: skip
        faulty = {run.folder.name: fault for run, fault in zip(runs.runs, faults, strict=True)}
        do_run = functools.partial(light, updates=updates, faults=faulty, flag=str(self.flag))
        if todo := runs.todo():
            workers = {name: own[name] for name in ("workers", "max_num_timeout")}
            runs.submit(todo, Submitting(request=chosen, parameters=parameters, **workers), do_run=do_run)
        return runs


def finish(runs: Runs) -> list[RunState]:
    runs.wait(poll_s=0.5, cancel=False)
    return runs.look()


def until(runs: Runs, reached: Callable[[list[RunState]], bool], *, within_s: float = 180) -> list[RunState]:
    deadline = time.monotonic() + within_s
    while not reached(found := runs.look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def running(found: list[RunState]) -> bool:
    return all(run.state == "running" for run in found)


def updates_written(folder: Path) -> list[int]:
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    return [line["update"] for line in lines if line["event"] == "step"]


def updates_of(folder: Path, start: int) -> list[int]:
    """Updates that the journal has from the run's start of this number, from 0, to its next."""
    found: list[list[int]] = []
    for line in map(json.loads, (folder / FILE).read_text().splitlines()):
        if line["event"] == "attempt":
            found.append([])
        if line["event"] == "step":
            found[-1].append(line["update"])
    return found[start]


def starts(folder: Path) -> list[str]:
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    return [line["job"] for line in lines if line["event"] == "attempt"]


def node_of(job: str | None) -> str:
    """The node, or nodes, that a job runs on."""
    assert job is not None
    return ask("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()


def pid_of(cluster: Path, daemon: str) -> int:
    """The process of one of the cluster's daemons."""
    return int((cluster / "run" / f"{daemon}.pid").read_text())


@contextlib.contextmanager
def asleep(pid: int) -> Iterator[None]:
    """Within the block the process does nothing; what it is told waits."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
