"""What goes wrong on a cluster, and what then holds: no other run is lost, and the table and Slurm tell the truth."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.cli import CONF, is_done
from sweep.clustered import Runs
from sweep.keys import run_key
from sweep.launch.cluster import ended
from sweep.names import run_folder
from sweep.packing import Chosen
from sweep.standing import Standing
from sweep.tracking import FILE
from tests.slurm.light import light
from tests.test_config import composed

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ASKED = {"name": "light", "timeout_min": 5, "mem_gb": 0.2, "signal_delay_s": 60}
SHORT, LONG = 4, 200
"""Updates of a light run, a tenth of a second each."""


class Sweep:
    """Light runs on the cluster under one name; again(), as the same command typed once more."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)
        self.flag = home / "faulty"
        self.flag.touch()
        conf = yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text())
        own = ("pack", "pack_min", "detach", "on_interrupt", "poll_s", "max_num_timeout")
        self.own = {name: conf.pop(name) for name in own}
        del conf["_target_"]
        self.parameters = {**conf, **ASKED}

    def launch(self, faults: list[str], updates: int = SHORT, **changed: Any) -> Runs:
        configs = [composed("name=light", f"seed={seed}") for seed in range(len(faults))]
        runs = Runs(configs, [self.home / run_folder(config) for config in configs], is_done)
        parameters = self.parameters | {k: v for k, v in changed.items() if k not in self.own}
        own = self.own | {k: v for k, v in changed.items() if k in self.own}
        chosen = Chosen(
            nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1,
            mem_gb=parameters["mem_gb"], timeout_min=parameters["timeout_min"],
        )  # fmt: skip
        arguments = {
            i: (str(runs.folders[i]), run_key(configs[i]), updates, faults[i], str(self.flag)) for i in runs.todo()
        }
        if arguments:
            runs.submit(light, arguments, chosen, parameters, own)
        return runs


@pytest.fixture
def sweep(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweep]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.chdir(tmp_path)
    yield Sweep(tmp_path / "multirun" / "light")
    subprocess.run(["scancel", "--me", "--name=light"], check=True)


def finish(runs: Runs) -> list[Standing]:
    runs.wait(poll_s=0.5, cancel=False)
    return runs._look()


def until(runs: Runs, reached: Callable[[list[Standing]], bool], *, within_s: float = 60) -> list[Standing]:
    deadline = time.monotonic() + within_s
    while not reached(found := runs._look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def running(found: list[Standing]) -> bool:
    return all(standing.state == "running" for standing in found)


def updates_written(folder: Path) -> list[int]:
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    return [line["update"] for line in lines if line["event"] == "step"]


def starts(folder: Path) -> list[str]:
    lines = map(json.loads, (folder / FILE).read_text().splitlines())
    return [line["job"] for line in lines if line["event"] == "attempt"]


def test_what_fails_takes_nothing_with_it_and_the_same_command_does_the_rest(sweep: Sweep) -> None:
    runs = sweep.launch(["", "raise", "kill", "exit", ""])
    found = finish(runs)
    assert [standing.state for standing in found] == ["finished", "failed", "lost", "interrupted", "finished"]
    assert "this run's own fault" in found[1].detail
    assert [runs.failure(i) is None for i in range(5)] == [True, False, False, False, True]
    states = ended([standing.job for standing in found if standing.job])
    assert Counter(states.values()) == {"COMPLETED": 2, "FAILED": 3}, "Slurm says FAILED of what failed"
    sweep.flag.unlink()
    again = sweep.launch(["", "raise", "kill", "exit", ""])
    assert [standing.state for standing in finish(again)] == ["finished"] * 5
    assert [len(starts(folder)) for folder in again.folders] == [1, 2, 2, 2, 1], "what was done is not done again"
