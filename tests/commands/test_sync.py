"""`sweep sync`: any MLflow holds what the journals hold, after one call or several, and a check proves it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from sweep.commands import sync
from sweep.tracking import FILE, Journal
from tests.damage import HOW, damage, flip
from tests.tracking.conftest import ATTEMPT, score, write_run

CONFIG = "tracking: {name: sqlite, enabled: true, uri: null, experiment: anneal}\n"
pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")


def make(multirun: Path, name: str, status: str | None = "finished") -> Path:
    more = {"key": f"key-{name}", "name": f"point {name}", "config_yaml": CONFIG}
    return write_run(multirun / "steps" / name, status=status, steps=8, **more)


def main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["sweep sync", *words])
    try:
        sync.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def there(uri: str) -> tuple[dict[str, Run], Run]:
    """Name -> the points' runs, and the parent."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("anneal")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    points = {run.info.run_name: run for run in runs if "sweep.parent" not in run.data.tags}
    (parent,) = (run for run in runs if "sweep.parent" in run.data.tags)
    return {str(name): run for name, run in points.items()}, parent


def all_runs(uri: str) -> list[Run]:
    """The points' runs and the parent."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("anneal")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])


@pytest.fixture
def multirun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "multirun"


@pytest.mark.slow
def test_a_sweep_is_brought_into_mlflow_checked_and_moved_on(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, status in {"a": "finished", "b": "failed", "c": None}.items():
        make(multirun, name, status)
    assert main(monkeypatch, "--check", "steps") == 1
    assert "0 runs in MLflow instead of 1" in capsys.readouterr().out
    assert main(monkeypatch, "--all") == 0
    assert "3 runs, all there" in capsys.readouterr().out
    uri = f"sqlite:///{multirun}/mlflow.db"
    points, parent = there(uri)
    statuses = {name: run.info.status for name, run in points.items()}
    assert statuses == {"point a": "FINISHED", "point b": "FAILED", "point c": "KILLED"}
    assert parent.info.status == "FAILED"
    assert main(monkeypatch, "--all", "--check") == 0
    assert "no differences" in capsys.readouterr().out

    before = {name: run.to_dictionary() for name, run in points.items()}
    assert main(monkeypatch, str(multirun / "steps")) == 0
    assert {name: run.to_dictionary() for name, run in there(uri)[0].items()} == before

    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    capsys.readouterr()
    assert main(monkeypatch, "steps") == 0
    assert main(monkeypatch, "steps", "--check") == 0
    assert "elsewhere.db" in capsys.readouterr().out
    assert there(elsewhere)[0].keys() == points.keys()


def test_check_says_what_differs(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(multirun, "a")
    assert main(monkeypatch, "--all") == 0
    uri = f"sqlite:///{multirun}/mlflow.db"
    client, run_id = MlflowClient(uri), there(uri)[0]["point a"].info.run_id
    client.log_metric(run_id, "train/loss", 7.0, step=3, timestamp=1)
    client.log_metric(run_id, "foreign", 1.0)
    client.set_tag(run_id, "sweep.attempts", "9")
    client.set_terminated(run_id, "KILLED")
    with Journal(folder) as journal:
        journal.write("attempt", **ATTEMPT | {"key": "key-a", "config_yaml": CONFIG})
        journal.write("scores", when="after", scores=[score("core8", "mean", 0.5)])
        journal.write("outcome", status="finished", error=None, result=None)
    capsys.readouterr()
    assert main(monkeypatch, "--all", "--check") == 1
    told = capsys.readouterr().out
    for line in (
        "status KILLED, journal FINISHED",
        "tag sweep.attempts: '9', journal '2'",
        "metric train/loss: 1 points not in the journal, journal 8; the first at step 3",
        "metric foreign: 1 points not in the journal, journal 0",
        "metric after/mean: 1 points missing, journal 1",
    ):
        assert line in told


def test_scores_that_differ_in_a_later_attempt_are_shown_as_they_are_now(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU, or where tasks were edited in between; the smaller value is shown too, where it is the later one."""
    folder = make(multirun, "a")
    assert main(monkeypatch, "--all") == 0
    with Journal(folder) as journal:
        journal.write("attempt", **ATTEMPT | {"key": "key-a", "config_yaml": CONFIG})
        now = [score("arc_easy", "acc", 0.25), score("core8", "mean", 0.41), score("heldout", "loss", 4.0)]
        journal.write("scores", when="after", scores=now)
    assert main(monkeypatch, "--all", "--check") == 1
    assert "metric after/arc_easy.acc: 1 points missing" in capsys.readouterr().out
    with Journal(folder) as journal:
        cost = {"tokens": 20480, "flops": 1e12, "anneal_s": 0.2, "updates_done": 0, "seconds": 0.5}
        result = {"key": "key-a", "params": ATTEMPT["params"], "final_state": "f" * 32, "cost": cost, "name": "a"}
        journal.write("outcome", status="finished", error=None, result=result)
    assert main(monkeypatch, "--all") == 0
    assert main(monkeypatch, "--all", "--check") == 0, capsys.readouterr().out
    uri = f"sqlite:///{multirun}/mlflow.db"
    run = there(uri)[0]["point a"]
    metrics = run.data.metrics
    assert (metrics["after/arc_easy.acc"], metrics["after/mean"], metrics["cost/seconds"]) == (0.25, 0.41, 0.5)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "after/arc_easy.acc")
    assert [point.value for point in history] == [0.4, 0.25], "each at its own time"
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "after/mean")) == 1
    (multirun / "mlflow.db").rename(multirun / "old.db")
    assert main(monkeypatch, "--all") == 0
    assert main(monkeypatch, "--all", "--check") == 0, "a fresh MLflow gets what holds now"


def test_after_any_damage_to_a_journal_sync_converges(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First a line of each kind is damaged; then the same runs are made again, as the same command does."""
    kinds = ("attempt", "scores", "step", "inputs", "system", "artifact", "outcome")
    folders = {kind: make(multirun, kind) for kind in (*kinds, "emptied", "truncated")}
    assert main(monkeypatch, "--all") == 0
    for kind in kinds:
        journal = folders[kind] / FILE
        flip(journal, 8 * (journal.read_bytes().index(f'"event":"{kind}"'.encode()) + 40))
    for how in ("emptied", "truncated"):
        damage(folders[how] / FILE, how)
    capsys.readouterr()

    assert main(monkeypatch, "--all") == 1, "two journals hold no attempt"
    told = capsys.readouterr()
    assert "not sent" not in told.out and told.err.count("holds no attempt that can be read") == 2
    assert main(monkeypatch, "--all", "--check") == 1
    differences = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    lost = [line for line in differences if "can't be read: what was written there is lost" in line]
    assert len(lost) == 6
    assert {line.split(":")[0].strip() for line in differences if line not in lost} == {"truncated"}

    for kind in folders:
        make(multirun, kind)
    assert main(monkeypatch, "--all") == 0
    assert main(monkeypatch, "--all", "--check") == 0, capsys.readouterr().out
    damage(folders["emptied"] / "mlflow.json", "emptied")
    assert main(monkeypatch, "--all") == 0, "MLflow's run is known without it"
    assert main(monkeypatch, "--all", "--check") == 0, capsys.readouterr().out
    assert len(all_runs(f"sqlite:///{multirun}/mlflow.db")) == len(folders) + 1
    points, _ = there(f"sqlite:///{multirun}/mlflow.db")
    assert points.keys() == {f"point {name}" for name in folders}
    assert {run.info.status for run in points.values()} == {"FINISHED"}


@pytest.mark.parametrize("how", HOW)
def test_after_any_damage_to_what_is_remembered_of_mlflow_nothing_is_there_twice(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = make(multirun, "a")
    assert main(monkeypatch, "--all") == 0
    for file in (folder / "mlflow.json", folder.parent / ".mlflow.began"):
        damage(file, how)
    assert main(monkeypatch, "--all") == 0
    assert main(monkeypatch, "--all", "--check") == 0
    assert len(there(f"sqlite:///{multirun}/mlflow.db")[0]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lock", ["EXCLUSIVE", "IMMEDIATE"])
def test_a_locked_database_is_waited_for(multirun: Path, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    folder = make(multirun, "a")
    assert main(monkeypatch, "--all") == 0
    with Journal(folder) as journal:
        journal.write("attempt", **ATTEMPT | {"key": "key-a", "config_yaml": CONFIG})
        journal.write("outcome", status="failed", error="x", result=None)
    locked = sqlite3.connect(multirun / "mlflow.db", check_same_thread=False)
    locked.execute(f"BEGIN {lock}")
    free = threading.Timer(26, locked.rollback)
    free.start()
    assert main(monkeypatch, "--all") == 0
    free.join()
    locked.close()
    assert main(monkeypatch, "--all", "--check") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [(["none"], "SWEEP=none: no such folder, and under multirun 'none' is not one of steps"), ([], "no runs in")],
)
def test_what_is_not_there_is_refused(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    if words:
        make(multirun, "a")
    monkeypatch.setattr(sys, "argv", ["sweep sync", *words])
    with pytest.raises(SystemExit, match=told):
        sync.main()


def test_a_server_that_is_away_is_said_and_exits_with_one(
    multirun: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(multirun, "a")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    assert main(monkeypatch, "steps") == 1
    told = capsys.readouterr().out
    assert "not sent: all: " in told
    assert "hunter2" not in told


@pytest.mark.slow
def test_watch_goes_on_with_what_changes(multirun: Path) -> None:
    folder = make(multirun, "a", status=None)
    with subprocess.Popen(
        [sys.executable, "-m", "sweep", "sync", "steps", "--watch"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as watching:
        assert watching.stdout is not None
        assert "1 runs, all there" in watching.stdout.readline()
        with Journal(folder) as journal:
            journal.write("outcome", status="finished", error=None, result=None)
        make(multirun, "b")
        deadline = time.monotonic() + 60
        while (found := there(f"sqlite:///{multirun}/mlflow.db")[0]).keys() != {"point a", "point b"} or not all(
            run.info.status == "FINISHED" for run in found.values()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60) == 1
