"""Whole sweeps on the cluster, as a user types them: equal to undisturbed ones, and in the user's hands throughout."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import pytest

from sweep.launch.cluster import FINAL, ask, last_states
from sweep.launch.job_log import submissions
from sweep.tracking import FILE, read
from tests.slurm.commands import ROOT, Sweep, finish, node_of, pid_of, updates_of
from tests.whole.test_end_to_end import SMALL, home, results, start, sweep, undisturbed

T = TypeVar("T")

__all__ = ["home"]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("cluster"),
]

SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=1", "hydra.launcher.timeout_min=10", "tracking=none")


def status(home: Path, name: str = "main", *words: str) -> tuple[int, str]:
    """`sweep status NAME`: its exit code and what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sweep", "status", name, *words], cwd=home, text=True, capture_output=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def jobs(home: Path, name: str) -> set[str]:
    """The jobs that a sweep was given to."""
    return {job for given in submissions(home / "multirun" / name).values() for job in given.jobs}


def journal(home: Path, of: str, name: str = "main") -> Path | None:
    """The journal of the run of the sweep that has `of` in its name, once there is one."""
    return next(iter((home / "multirun" / name).glob(f"*{of}*/{FILE}")), None)


def until(reached: Callable[[], T | None], process: subprocess.Popen[str], *, within_s: float = 240) -> T:
    """What `reached` gives, once it gives something; looked at often, as small runs are short."""
    deadline = time.monotonic() + within_s
    while not (found := reached()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def at_update(home: Path, of: str, number: int, name: str = "main") -> Path | None:
    """The run's folder, where its last start is so far into the anneal."""
    found = journal(home, of, name)
    if found is None:
        return None
    this = found.read_text().rpartition('"event":"attempt"')[2]
    return found.parent if this.count('"event":"step"') >= number else None


def job_and_pid(folder: Path) -> tuple[str, int]:
    """Of the run's last start."""
    *_, last = read(folder).attempts
    return last["job"].partition(" ")[0], last["pid"]


def pid_of_rank(rank: int, job: str) -> int:
    """The process of one rank of a job."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found = process.environ()
            if found.get("SLURM_JOB_ID") == job and found.get("SLURM_PROCID") == str(rank):
                return process.pid
    raise AssertionError(f"job {job} has no rank {rank}")


def cancelled(job: str, pid: int) -> None:
    """The run sleeps until Slurm wakes it, to tell it: else it may be done by then."""
    os.kill(pid, signal.SIGSTOP)
    ask("scancel", job)


def preempted(folder: Path) -> None:
    """A job of a higher partition takes the run's node; here too the run sleeps until it is told."""
    os.kill(job_and_pid(folder)[1], signal.SIGSTOP)
    higher = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--job-name=high", "--output=/dev/null"]
    subprocess.run([*higher, "--wrap=sleep 2"], check=True, capture_output=True)


def went_on(folder: Path, updates: int) -> bool:
    """Whether the run's last two starts share its updates, none done twice."""
    *_, first, _second = (folder / FILE).read_text().split('{"event":"attempt"')
    outcome = read(folder).outcome
    assert outcome is not None
    return 20 <= first.count('"event":"step"') == updates - outcome["result"]["cost"]["updates_done"]


def test_a_worker_preempted_in_its_scoring_and_in_its_anneal_gives_what_an_undisturbed_sweep_gives(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("anneal.steps=300,400", *SMALL[:-1], "tasks.limit=200", "anneal.save_interval=1000")
    scores = home / "store" / "scores"
    packed = ("hydra.launcher.workers=1", "hydra.launcher.max_num_timeout=0")  # preemption takes no restart
    with start(home, *SLURM, *packed, *words) as process:
        early, *_ = until(lambda: list(scores.glob("[!.]*")), process)
        first = journal(home, "linear_400")
        assert first is not None, "the longest goes first"
        preempted(first.parent)
        made = (early / "entry.json").stat().st_mtime_ns
        preempted(at := until(lambda: at_update(home, "linear_300", 20), process))
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    assert (early / "entry.json").stat().st_mtime_ns == made, "a task that was scored is not scored again"
    assert went_on(at, 300)
    found = [read(path.parent) for path in (home / "multirun" / "main").glob(f"*/{FILE}")]
    assert len({events.attempts[-1]["pid"] for events in found}) == 2
    words = (*words, "hydra.launcher.workers=1", "tracking=none")
    other = undisturbed(home, tmp_path_factory.mktemp("undisturbed"), "-m", *words)
    assert results(home) == results(other)


def sleeping(home: Path, name: str, of: str) -> Callable[[], Path | None]:
    """Once the run is in the middle of its anneal, it is put to sleep; gives its folder."""

    def reached() -> Path | None:
        if (folder := at_update(home, of, 20, name)) is not None:
            os.kill(job_and_pid(folder)[1], signal.SIGSTOP)
        return folder

    return reached


def log_of(home: Path, name: str) -> str:
    """What the jobs of a sweep have written."""
    return "".join(path.read_text() for path in (home / "multirun" / name / ".slurm").glob("*/*_log.err"))


def test_real_runs_that_raise_take_too_much_memory_or_run_out_of_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four commands side by side, and a stand-in that hears no signal.

    A run that is to hear a signal sleeps until Slurm, which wakes it, sends the signal: so no machine is too fast.
    """
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    tokens = np.random.default_rng(0).integers(2, 2048, (200, 384), dtype=np.uint16)
    tokens.tofile(home / "good.npy")
    tokens[:, 7] = 60_000
    tokens.tofile(home / "bad.npy")
    files = f"data.paths=[{home}/bad.npy],[{home}/good.npy]"
    words = (*SMALL, "tasks=loss", "anneal.save_interval=1000")
    limit = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=30")
    commands = {
        "bad": ("hydra.launcher.workers=1", "data=local", files, "anneal.steps=100"),
        "large": ("hydra.launcher.mem_gb=1.5", "anneal.steps=8", "anneal.batch_size=1,400"),
        "limit": (*limit, "anneal.steps=300"),
        "spent": (*limit, "hydra.launcher.max_num_timeout=0", "anneal.steps=350"),
    }
    commands = {name: (*SLURM, f"name={name}", *words, *own) for name, own in commands.items()}
    assert sweep(home, "name=first", "anneal.steps=1", "tracking=none", *words)[0] == 0, "trains the model"
    light = Sweep(home / "multirun" / "light")
    deaf = light.launch(["deaf"], timeout_min=1, signal_delay_s=0)
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(start(home, *command)) for name, command in commands.items()}
        folders = {
            name: until(sleeping(home, name, "linear"), processes[name], within_s=100) for name in ("limit", "spent")
        }
        output = {"spent": processes["spent"].communicate(timeout=200)[0]}
        code, page = status(home, "spent")
        assert (code, "1 interrupted" in page, "its job ended FAILED" in page) == (1, True, True), page
        assert "max_num_timeout=0 is used up" in log_of(home, "spent")
        again = stack.enter_context(start(home, *commands["spent"]))
        output |= {name: processes[name].communicate(timeout=200)[0] for name in ("bad", "large", "limit")}
        output["again"] = again.communicate(timeout=200)[0]
    assert {name: process.returncode for name, process in processes.items()} == {
        "bad": 1,
        "large": 1,
        "limit": 0,
        "spent": 1,
    }, output
    assert again.returncode == 0, output["again"]
    assert went_on(folders["limit"], 300)
    assert [attempt["job"].split(" ", 1)[1] for attempt in read(folders["limit"]).attempts] == [
        "restart 0",
        "restart 1",
    ]
    assert went_on(folders["spent"], 350), "the same command goes on where it stopped"
    page = status(home, "bad")[1]
    assert "1 failed" in page and "1 finished" in page and "holds token id 60000" in page, page
    assert list(last_states(jobs(home, "bad")).values()) == ["FAILED"], (
        "one job, and the run beside the failed one is done"
    )
    page = status(home, "large")[1]
    assert "1 interrupted" in page and "1 finished" in page, page
    assert "Killed" in page or "Exceeded job memory limit" in page, page
    assert set(last_states(jobs(home, "large")).values()) <= {"COMPLETED", "OUT_OF_MEMORY", "FAILED"}, (
        "FAILED without cgroups"
    )
    [run] = finish(deaf)
    assert run.state == "interrupted" and "TIMEOUT" in run.detail
    light.flag.unlink()
    assert [run.state for run in finish(light.launch(["deaf"]))] == ["finished"]


@pytest.mark.usefixtures("repaired")
def test_one_killed_one_cancelled_and_one_whose_node_sleeps_end_as_an_undisturbed_sweep(
    home: Path, cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The last is taken for dead, gone on with elsewhere, and wakes up too late to write."""
    words = ("anneal.steps=1000,1100,1200", *SMALL[:-2], "tasks=loss", "tasks.limit=3", "anneal.save_interval=200")
    strikes = {
        "linear_1000": lambda job, pid: os.kill(pid, signal.SIGKILL),
        "linear_1100": cancelled,
        "linear_1200": lambda job, pid: os.kill(pid, signal.SIGSTOP),
    }

    def struck() -> bool:
        for of in list(strikes):
            if (folder := at_update(home, of, 20)) is not None:
                strikes.pop(of)(*job_and_pid(folder))
        return not strikes

    with start(home, *SLURM, *words) as process:
        until(struck, process)
        late = journal(home, "linear_1200")
        assert late is not None
        job, pid = job_and_pid(late.parent)
        try:
            os.kill(pid_of(cluster, f"slurmd.{node_of(job)}"), signal.SIGKILL)
            until(lambda: len(read(late.parent).attempts) == 2, process, within_s=200)
        finally:
            os.kill(pid, signal.SIGCONT)
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 1, output
    assert not Path(f"/proc/{pid}").exists()
    code, said = status(home)
    assert code == 1
    for line in ("2 interrupted", "1 finished", "its job ended FAILED", "its job ended CANCELLED"):
        assert line in said, said
    theirs = updates_of(late.parent, 1)
    assert theirs == list(range(1, 1201)), "nobody wrote in between"
    code, output = sweep(home, *SLURM, *words)
    assert code == 0, output
    assert [len(read(path.parent).attempts) for path in sorted((home / "multirun" / "main").glob(f"*/{FILE}"))] == [
        2
    ] * 3
    words = (*words, "hydra.launcher.workers=1", "tracking=none")
    other = undisturbed(home, tmp_path_factory.mktemp("undisturbed"), "-m", *words)
    assert results(home) == results(other)


def test_a_sweep_is_submitted_left_looked_at_and_cancelled(home: Path) -> None:
    later = (*SLURM, "hydra.launcher.additional_parameters={begin: now+600}", "anneal.steps=4,8", *SMALL)
    with start(home, *later) as process:
        while not (home / "multirun" / "main" / ".slurm" / "submitted.jsonl").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        time.sleep(1)  # from submitting to waiting
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "the jobs go on" in output
    assert "sweep status main --cancel" in output
    code, output = sweep(home, *later, "hydra.launcher.detach=true")
    assert code == 0
    assert output.count("left alone: pending") == 2, "what a job has already is not submitted again"
    code, output = status(home)
    assert code == 0
    assert "pending, BeginTime" in output
    assert "2 runs: 2 pending" in output
    assert status(home, "main", "--cancel") == (0, "cancelled: 2 jobs\n")
    code, output = status(home, "main", "--wait", "--poll=0.5")
    assert code == 1
    assert "0 of 2 runs finished" in output
    assert output.count("CANCELLED") == 2
    code, output = sweep(home, "-m", "anneal.steps=4,8", "tracking=none", *SMALL)
    assert code == 0, "this machine's launcher does the rest as well"
    assert status(home)[0] == 0


def test_four_ranks_on_two_nodes_lose_one_go_on_as_two_that_are_preempted_and_give_what_one_process_gives(
    home: Path,
) -> None:
    words = ("anneal.steps=100", "model.batch_size=4", *SMALL, "tasks=loss", "anneal.save_interval=10")
    four = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2", "hydra.launcher.mem_gb=2")
    with start(home, *SLURM, *four, *words) as process:
        folder = until(lambda: at_update(home, "linear_100", 30), process)
        job, pid = job_and_pid(folder)
        os.kill(pid_of_rank(3, psutil.Process(pid).environ()["SLURM_JOB_ID"]), signal.SIGKILL)
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 1, output
    with start(home, *SLURM, *four[1:], *words) as process:
        assert until(lambda: {j: s for j, s in last_states([job]).items() if s in FINAL}, process) == {job: "FAILED"}
        preempted(until(lambda: at_update(home, "linear_100", 50), process))
        output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    assert went_on(folder, 100)
    [shared] = results(home).values()
    shutil.rmtree(home / "store" / "states")
    assert sweep(home, "tracking=none", "name=one", *words)[0] == 0
    [alone] = results(home, "one").values()
    for (_, lr, loss, norm), step in zip(alone[1], shared[1], strict=True):
        assert step[1:] == pytest.approx((lr, loss, norm), rel=1e-4)
