"""Whole sweeps on the cluster, as a user types them: equal to undisturbed ones, and in the user's hands throughout."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweep.tracking import FILE, read
from tests.slurm.test_faults import updates_written
from tests.test_end_to_end import SMALL, corpus, home, results, start, sweep, undisturbed

__all__ = ["corpus", "home"]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.usefixtures("cluster"),
]

SLURM = ("-m", "hydra/launcher=slurm", "hydra.launcher.poll_s=1", "hydra.launcher.timeout_min=10", "tracking=none")


def door(home: Path, name: str, *words: str) -> tuple[int, str]:
    """A door of ours, `python -m sweep.NAME main`: its exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", f"sweep.{name}", "main", *words], cwd=home, text=True, capture_output=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def preempt_at(home: Path, of: str, process: subprocess.Popen[str]) -> Path:
    """The run's folder, once it is some updates into its anneal and a job of a higher partition wants its node."""
    while True:
        at = next(iter((home / "multirun" / "main").glob(f"*{of}*/{FILE}")), None)
        if at is not None and len(updates_written(at.parent)) >= 20:
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    higher = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--job-name=high", "--output=/dev/null"]
    subprocess.run([*higher, "--wrap=sleep 2"], check=True, capture_output=True)
    return at.parent


def went_on(folder: Path, updates: int) -> bool:
    """Whether the run took two starts, the second of which did what the first had left and no more."""
    _, first, _second = (folder / FILE).read_text().split('{"event":"attempt"')
    outcome = read(folder).outcome
    assert outcome is not None
    return 20 <= first.count('"event":"step"') == updates - outcome["result"]["cost"]["updates_done"]


def test_a_pack_preempted_in_its_anneal_gives_what_an_undisturbed_sweep_gives(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("anneal.steps=300,400", *SMALL, "tasks=loss", "anneal.save_interval=1000")
    with start(home, *SLURM, "hydra.launcher.pack=2", *words) as process:
        at = preempt_at(home, "linear_400", process)
        output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    other = undisturbed(home, tmp_path_factory.mktemp("undisturbed"), "-m", "tracking=none", *words)
    assert results(home) == results(other)
    assert went_on(at, 400), "it was preempted, and no update was done twice"
    found = [read(path.parent) for path in (home / "multirun" / "main").glob(f"*/{FILE}")]
    assert len({events.attempts[-1]["pid"] for events in found}) == 1, "the pack's runs shared a process"


def test_a_sweep_is_submitted_left_looked_at_and_cancelled(home: Path) -> None:
    later = (*SLURM, "hydra.launcher.additional_parameters={begin: now+600}", "anneal.steps=4,8", *SMALL)
    with start(home, *later) as process:
        while not (home / "multirun" / "main" / ".slurm" / "submitted.jsonl").exists():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        time.sleep(1)  # from submitting to waiting
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "the jobs go on" in output
    assert "python -m sweep.cancel main" in output
    code, output = sweep(home, *later, "hydra.launcher.detach=true")
    assert code == 0
    assert output.count("left alone: pending") == 2, "what a job has already is not submitted again"
    code, output = door(home, "status")
    assert code == 0
    assert "pending, BeginTime" in output
    assert "2 runs: 2 pending" in output
    assert door(home, "cancel") == (0, "cancelled: 2 jobs\n")
    code, output = door(home, "wait", "--poll=0.5")
    assert code == 1
    assert "0 of 2 runs finished" in output
    assert output.count("CANCELLED") == 2
    code, output = sweep(home, "-m", "anneal.steps=4,8", "tracking=none", *SMALL)
    assert code == 0, "this machine's launcher does the rest as well"
    assert door(home, "status")[0] == 0


def test_four_ranks_on_two_nodes_preempted_give_what_one_process_gives(home: Path) -> None:
    words = ("anneal.steps=60", "model.batch_size=4", *SMALL, "tasks=loss", "anneal.save_interval=1000")
    four = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2", "hydra.launcher.mem_gb=1")
    with start(home, *SLURM, *four, *words) as process:
        at = preempt_at(home, "linear_60", process)
        output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    assert went_on(at, 60)
    [shared] = results(home).values()
    shutil.rmtree(home / "store" / "states")
    assert sweep(home, "tracking=none", "name=one", *words)[0] == 0
    [alone] = results(home, "one").values()
    for (_, lr, loss, norm), step in zip(alone[1], shared[1], strict=True):
        assert step[1:] == pytest.approx((lr, loss, norm), rel=1e-4)
