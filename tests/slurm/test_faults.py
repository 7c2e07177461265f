"""What goes wrong on a cluster, and what then holds: no other run is lost, and the table and Slurm tell the truth."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.cli import CONF, is_done
from sweep.clustered import Runs, cancel_jobs
from sweep.keys import run_key
from sweep.launch.cluster import ended, queue
from sweep.names import run_folder
from sweep.packing import Chosen
from sweep.refusal import Refusal
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


def test_a_failing_run_does_not_touch_its_pack(sweep: Sweep) -> None:
    found = finish(sweep.launch(["", "raise", "exit", ""], pack=4))
    assert [standing.state for standing in found] == ["finished", "failed", "interrupted", "finished"]
    assert len({standing.job for standing in found}) == 1
    assert ended([found[0].job or ""]) == {found[0].job: "FAILED"}


def test_a_run_that_takes_more_memory_than_asked_for_says_so(sweep: Sweep) -> None:
    found = finish(sweep.launch(["memory", ""], updates=60))
    assert [standing.state for standing in found] == ["lost", "finished"]
    assert "Killed" in found[0].detail or "Exceeded job memory limit" in found[0].detail
    assert ended([found[0].job or ""])[found[0].job or ""] in ("OUT_OF_MEMORY", "FAILED"), "the latter without cgroups"


def test_scancel_ends_what_it_names_alone_and_nothing_goes_back_into_the_queue(sweep: Sweep) -> None:
    runs = sweep.launch(["", ""], updates=60)
    found = until(runs, running)
    subprocess.run(["scancel", found[0].job], check=True)
    found = finish(runs)
    assert [standing.state for standing in found] == ["interrupted", "finished"]
    assert "CANCELLED" in found[0].detail
    assert runs.failure(0)


def test_the_signal_before_the_time_limit_sends_a_run_back_and_it_goes_on_where_it_stopped(sweep: Sweep) -> None:
    runs = sweep.launch(["", ""], updates=50, max_num_timeout=1)
    found = until(runs, running)
    subprocess.run(["scancel", "--signal=USR2", found[0].job], check=True)
    found = finish(runs)
    assert [standing.state for standing in found] == ["finished", "finished"]
    assert updates_written(runs.folders[0]) == list(range(1, 51)), "no update is done twice"
    assert [word.split(" ", 1)[1] for word in starts(runs.folders[0])] == ["restart 0", "restart 1"]


def test_without_restarts_left_the_time_limit_is_a_failure_and_the_same_command_goes_on(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=40, max_num_timeout=0)
    [running_one] = until(runs, running)
    subprocess.run(["scancel", "--signal=USR2", running_one.job], check=True)
    [found] = finish(runs)
    assert found.state == "interrupted"
    assert "FAILED" in found.detail
    assert "max_num_timeout=0 is used up" in Path(f"{sweep.home}/.slurm/{found.job}/{found.job}_0_log.err").read_text()
    again = sweep.launch([""], updates=40)
    assert [standing.state for standing in finish(again)] == ["finished"]
    assert updates_written(again.folders[0]) == list(range(1, 41))


def test_preemption_by_a_higher_partition_is_no_failure_and_takes_no_restart(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=40, max_num_timeout=0)
    until(runs, running)
    higher = [
        "sbatch",
        "--parsable",
        "--partition=high",
        "--nodes=2",
        "--exclusive",
        "--job-name=light",
        "--output=/dev/null",
    ]
    subprocess.run([*higher, "--wrap=sleep 3"], check=True, capture_output=True)
    until(runs, lambda found: found[0].state == "pending")
    assert [standing.state for standing in finish(runs)] == ["finished"]
    assert updates_written(runs.folders[0]) == list(range(1, 41)), "no update is done twice"


def test_a_node_that_goes_down_loses_no_run(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=40)
    [found] = until(runs, running)
    node = subprocess.check_output(["squeue", "-h", "-j", found.job, "-o", "%N"], text=True).strip()
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    try:
        until(runs, lambda now: now[0].state == "pending" or len(starts(runs.folders[0])) == 2)
        assert [standing.state for standing in finish(runs)] == ["finished"]
    finally:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)


def test_a_job_that_slurm_holds_back_is_named_with_what_frees_it(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=LONG)
    [found] = until(runs, running)
    subprocess.run(["scontrol", "requeuehold", found.job], check=True)
    [held] = until(runs, lambda now: now[0].state == "held")
    assert f"scontrol release {found.job}" in held.detail
    [left] = finish(runs)
    assert left.state == "held", "nobody waits for ever"
    assert f"scontrol release {found.job}" in (runs.failure(0) or "")
    assert sweep.launch([""]).todo() == [], "it is still the job's"
    assert cancel_jobs([left]) == 1


@pytest.fixture
def no_accounting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """sacct, as it answers on a cluster that keeps no accounts."""
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\necho Slurm accounting storage is disabled >&2\nexit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", str(sacct.parent), prepend=":")


@pytest.mark.usefixtures("no_accounting")
def test_without_accounting_the_end_of_a_job_is_seen_too(sweep: Sweep) -> None:
    found = finish(sweep.launch(["kill", ""]))
    assert [standing.state for standing in found] == ["lost", "finished"]
    assert "FAILED" in found[0].detail, "the controller remembers"


def test_while_the_controller_is_away_nothing_is_concluded(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = sweep.launch([""], updates=130)
    away = sweep.home / "slurm.conf"
    away.write_text(Path(os.environ["SLURM_CONF"]).read_text().replace("SlurmctldPort=", "SlurmctldPort=1"))
    with monkeypatch.context() as patched:
        patched.setenv("SLURM_CONF", str(away))
        [found] = runs._look()
        assert found.state == "unknown"
        assert runs.todo() == [], "what may be running is not submitted again"
    assert [standing.state for standing in finish(runs)] == ["finished"]


def test_more_runs_than_an_array_takes_are_several_arrays_that_share_the_parallelism(sweep: Sweep) -> None:
    runs = sweep.launch([""] * 13, additional_parameters={"hold": True}, array_parallelism=5)
    found = runs._look()
    assert Counter((standing.job or "").split("_")[0] for standing in found).most_common()[0][1] == 11
    assert len({standing.job for standing in found}) == 13
    assert {standing.state for standing in found} == {"held"}
    limits = subprocess.check_output(["squeue", "--me", "--noheader", "--format=%i"], text=True).split()
    assert {word.partition("%")[2] for word in limits} == {"3]", "2]"}
    assert cancel_jobs(found) == 13


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"timeout_min": 1}, "hydra.launcher.timeout_min=1: .*at least 2"),
        ({"partition": "hihg"}, "hydra.launcher.partition=hihg: 'hihg' is not one of high, main .did you mean high"),
        ({"partition": "high", "timeout_min": 100}, "hydra.launcher.timeout_min=100: partition high allows at most 60"),
        ({"mem_gb": 64}, "hydra.launcher.mem_gb=64: no node of this cluster has more than 7.8"),
        ({"constraint": "a100"}, "hydra.launcher: sbatch would not take such a job: .*[Ff]eature"),
    ],
)
def test_what_the_cluster_cannot_run_is_refused_before_anything_is_submitted(
    sweep: Sweep, changed: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        sweep.launch([""], **changed)
    assert not queue()
    assert not (sweep.home / ".slurm" / "submitted.jsonl").exists()
