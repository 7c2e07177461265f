"""The state of a run: by its journal and its lease, whatever files a killed process has left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep.launch.cluster import Queued, Unreachable
from sweep.launch.job_log import Submitted, record
from sweep.sweeps.run_states import Cluster, RunState, run_states
from sweep.system.lease import run_lease
from sweep.system.progress import FILE as PROGRESS
from sweep.system.progress import Progress, read_progress, reporting
from sweep.tracking import Journal

STALE = '{"stage": "anneal", "done": 3, "total": 9, "ends": null, "attempt": "killed"}'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run that was killed in the middle of its anneal."""
    folder = tmp_path / "main" / "run"
    with Journal(folder) as journal:
        journal.write("attempt", key="k")
    (folder / PROGRESS).write_text(STALE)
    return folder


def state(folder: Path, cluster: Cluster | None = None) -> RunState:
    [found] = run_states(folder.parent, cluster or Cluster(), runs=[folder.name])
    return found


def outcome(folder: Path, status: str) -> None:
    with Journal(folder) as journal:
        journal.write("outcome", status=status, error="ValueError: why", result=None)


def test_a_killed_run_is_interrupted_whatever_progress_it_left(folder: Path) -> None:
    assert (state(folder).state, state(folder).progress) == ("interrupted", None)


def test_a_run_whose_lease_is_held_is_running(folder: Path) -> None:
    with run_lease(folder).waited_for("it"):
        assert state(folder).state == "running"
    assert state(folder).state == "interrupted"


def test_a_new_attempt_does_not_show_the_progress_of_a_killed_one(folder: Path) -> None:
    with (
        run_lease(folder).waited_for("it") as lease,
        reporting(folder, lease.token),
        Progress("anneal", total=9) as bar,
    ):
        assert (read_progress(folder), state(folder).progress) == (None, None)
        bar.advance(1)
        assert read_progress(folder) == state(folder).progress != None  # noqa: E711


@pytest.mark.parametrize("status", ["failed", "interrupted", "finished"])
def test_the_last_outcome_is_the_state(folder: Path, status: str) -> None:
    outcome(folder, status)
    assert state(folder) == RunState(run="run", state=status, job=None, detail="ValueError: why")  # type: ignore[arg-type]


def test_a_run_without_a_journal_is_not_started(tmp_path: Path) -> None:
    assert state(tmp_path / "main" / "other").state == "not started"


@pytest.fixture
def cluster(folder: Path) -> Cluster:
    """The run was given to job 12, which is in the queue and running."""
    record(folder.parent, [Submitted(jobs=("12",), runs=("run",), time=time.time(), logs=(str(folder / "log"),))])
    cluster = Cluster()
    cluster.queued = {"12": Queued("RUNNING", "None")}
    return cluster


def test_a_stale_progress_file_does_not_make_a_waiting_run_of_a_pack_running(folder: Path, cluster: Cluster) -> None:
    assert state(folder, cluster).state == "pending"
    with run_lease(folder).waited_for("it"):
        assert state(folder, cluster).state == "running"


def test_a_job_that_ended_leaves_its_run_interrupted_unless_another_process_has_it(
    folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.sweeps.run_states.queue", dict)
    monkeypatch.setattr("sweep.sweeps.run_states.last_states", lambda jobs: dict.fromkeys(jobs, "OUT_OF_MEMORY"))
    (folder / "log").write_text("Killed\nsrun: error: node1: task 0: Exited with exit code 1\n")
    cluster.update(["12"])
    assert state(folder, cluster).state == "interrupted"
    assert state(folder, cluster).detail == f"its job ended OUT_OF_MEMORY; Killed; log {folder / 'log'}"
    with run_lease(folder).waited_for("it"):
        assert state(folder, cluster).state == "running"


def test_a_job_that_comes_back_is_seen_again(folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.sweeps.run_states.queue", dict)
    monkeypatch.setattr("sweep.sweeps.run_states.last_states", lambda jobs: dict.fromkeys(jobs, "NODE_FAIL"))
    cluster.update(["12"])
    assert state(folder, cluster).state == "interrupted"
    monkeypatch.setattr("sweep.sweeps.run_states.queue", lambda: {"12": Queued("PENDING", "BeginTime")})
    cluster.update(["12"])
    assert state(folder, cluster).state == "pending"


def test_a_job_that_squeue_leaves_out_for_a_moment_has_not_ended(
    folder: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.sweeps.run_states.queue", dict)
    monkeypatch.setattr("sweep.sweeps.run_states.last_states", lambda jobs: dict.fromkeys(jobs, "RUNNING"))
    cluster.update(["12"])
    assert state(folder, cluster).state == "pending"

    def busy(jobs: object) -> dict[str, str]:
        raise Unreachable("scontrol: Socket timed out")

    monkeypatch.setattr("sweep.sweeps.run_states.last_states", busy)
    cluster.update(["12"])
    assert state(folder, cluster).state == "unknown"


def test_a_controller_that_does_not_answer_leaves_the_state_unknown(folder: Path, cluster: Cluster) -> None:
    cluster.queued = None
    assert state(folder, cluster).state == "unknown"
