"""MLflow beside a run: whatever it does, the run pays at most the stated delay, and the journal has it all."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sweep.system.processes import born
from sweep.tracking import Journal, background, view
from sweep.tracking.connection import Connection
from sweep.tracking.place import Place
from sweep.tracking.sweeps import in_a_line

from .conftest import ATTEMPT, write_run

DELAY_S = 2.0
"""Shorter than the product's, as these tests wait it out."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not what is tested."""
    monkeypatch.setattr(background, "DELAY_S", 240.0)


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Place]:
    yield Place(f"sqlite:///{tmp_path}/mlflow.db", "anneal", tmp_path / "mlartifacts")
    background.background(where).close()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://me:hunter2@127.0.0.1:{listening.getsockname()[1]}"


def points(where: Place) -> list[Run]:
    """The runs that are no sweep's."""
    client = MlflowClient(where.tracking_uri)
    runs = client.search_runs([Connection(where.tracking_uri, where.experiment, where.artifact_root).experiment_id])
    return [run for run in runs if "sweep.parent" not in run.data.tags]


def feeders(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes started from here on."""
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(background.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])
    return started


def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that answers are waited for from here on, at most."""
    waits: list[float] = []
    answer = background.Background.answer
    monkeypatch.setattr(background.Background, "answer", lambda self, s: waits.append(s) or answer(self, s))
    return waits


def made(tmp_path: Path, name: str, **more: Any) -> Path:
    """The folder of a run of the sweep."""
    return write_run(tmp_path / "steps" / name, **{**ATTEMPT, "key": name, "name": name}, **more)


@pytest.mark.slow
def test_the_outcome_is_there_when_the_run_ends_and_the_next_run_gets_the_same_process(
    tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = feeders(monkeypatch)
    background.prepare(where)
    for name, status in (("a", "failed"), ("b", "finished")):
        folder = made(tmp_path, name, status=None)
        with background.followed(folder, where), Journal(folder) as journal:
            journal.write("outcome", status=status, error=None, result=None)
    assert {run.info.run_name: run.info.status for run in points(where)} == {"a": "FAILED", "b": "FINISHED"}
    assert len(started) == 1
    background.background(where).close()
    assert [feeder.returncode for feeder in started] == [-signal.SIGKILL]


@pytest.mark.slow
def test_runs_together_start_while_mlflow_gets_the_one_before(
    tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, owed = feeders(monkeypatch), []
    background.prepare(where)
    with background.overlapping_runs():
        for name in ("a", "b", "c"):
            folder = made(tmp_path, name, status=None)
            with background.followed(folder, where), Journal(folder) as journal:
                journal.write("outcome", status="finished", error=None, result=None)
            owed.append([path.name for path in background.background(where).queue])
    assert owed == [["a"], ["b"], ["c"]], "never more than one behind"
    assert background.background(where).queue == []
    assert {run.info.run_name: run.info.status for run in points(where)} == dict.fromkeys("abc", "FINISHED")
    assert len(started) == 1


@pytest.mark.slow
def test_a_stop_leaves_what_is_owed_to_the_process_alone(
    tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = feeders(monkeypatch)
    background.prepare(where)
    folder = write_run(tmp_path / "steps" / "a", key="a", name="a")
    with pytest.raises(KeyboardInterrupt), background.overlapping_runs():
        _stopped_after(folder, where)
    background.background(where).close()
    _wait(lambda: [process.poll() for process in started] == [0])
    assert [run.info.run_name for run in points(where)] == ["a"]


@pytest.mark.slow
def test_one_behind_is_told_and_the_next_one_is_still_sent(
    tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    background.prepare(where)
    runs = [made(tmp_path, name) for name in ("a", "b")]
    answer = background.Background.answer
    why = {runs[0]: "no route"}
    monkeypatch.setattr(
        background.Background, "answer", lambda self, s: why.get(self.queue[0], "") + (answer(self, s) or "")
    )
    with background.overlapping_runs():
        for folder in runs:
            with background.followed(folder, where):
                pass
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"(no route); the journals have it all: sweep sync {runs[0]}" in warning
    assert {run.info.run_name for run in points(where)} == {"a", "b"}


@pytest.mark.slow
def test_what_a_process_that_is_gone_did_not_send_is_told(
    tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = feeders(monkeypatch)
    background.prepare(where)
    runs = [made(tmp_path, name) for name in ("a", "b")]
    with background.overlapping_runs():
        started[0].send_signal(signal.SIGSTOP)
        with background.followed(runs[0], where):
            pass
        started[0].kill()
        started[0].wait()
        with background.followed(runs[1], where):
            pass
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"sweep sync {runs[0]}" in warning
    assert [run.info.run_name for run in points(where)] == ["b"]


@pytest.mark.slow
def test_a_run_that_an_exception_leaves_is_waited_for_and_one_without_an_outcome_is_not(
    tmp_path: Path, where: Place
) -> None:
    background.prepare(where)
    whole, broken = (made(tmp_path, name, status=status) for name, status in (("a", "interrupted"), ("b", None)))
    with pytest.raises(KeyError), background.overlapping_runs(), background.followed(whole, where):
        raise KeyError
    assert background.background(where).queue == []
    with pytest.raises(KeyError), background.overlapping_runs(), background.followed(broken, where):
        raise KeyError
    assert not background.background(where).is_running


def _stopped_after(folder: Path, where: Place) -> None:
    with background.followed(folder, where):
        pass
    raise KeyboardInterrupt


def test_runs_together_on_a_server_that_never_answers_cost_the_stated_delay_each_at_most(
    tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "DELAY_S", DELAY_S)
    where, waits = Place(silent, "anneal", tmp_path / "mlartifacts"), waited(monkeypatch)
    runs = [write_run(tmp_path / "steps" / name) for name in ("a", "b")]
    with background.overlapping_runs():
        for folder in runs:
            with background.followed(folder, where):
                pass
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"sweep sync {tmp_path / 'steps'}" in warning
    assert not background.background(where).is_running
    assert waits == [pytest.approx(DELAY_S, abs=0.1)]


@pytest.mark.slow
def test_a_sweep_half_done_is_shown_as_it_is_when_the_next_run_begins(tmp_path: Path, where: Place) -> None:
    """Whoever looks in the middle finds the columns and the table that the runs so far have filled."""
    background.prepare(where)
    for name in ("a", "b"):
        config = {"key": name, "name": name, "params": {**ATTEMPT["params"], "seed": ord(name)}}
        folder = write_run(tmp_path / "steps" / name, **config, status="finished" if name == "a" else None)
    client = MlflowClient(where.tracking_uri)
    with background.followed(folder, where), Journal(folder) as journal:
        _wait(lambda: "delta/mean" in _columns(client, where) and "1 finished, 1 no outcome" in _note(client, where))
        journal.write("outcome", status="finished", error=None, result=None)
    assert "seed" in _columns(client, where)


def _columns(client: MlflowClient, where: Place) -> str:
    """Of the sweep's view."""
    experiment = client.get_experiment_by_name(where.experiment)
    tag = experiment and experiment.tags.get(view.key("steps"))
    return " ".join(view.state_of(tag)["selectedColumns"]) if tag else ""


def _note(client: MlflowClient, where: Place) -> str:
    """Of the sweep's own run."""
    ids = [client.get_experiment_by_name(where.experiment).experiment_id]
    found = [run.data.tags for run in client.search_runs(ids) if "sweep.parent" in run.data.tags]
    return "".join(tags.get("mlflow.note.content", "") for tags in found)


@pytest.mark.slow
def test_one_that_has_gone_is_replaced(tmp_path: Path, where: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started = feeders(monkeypatch)
    background.prepare(where)
    started[0].kill()
    started[0].wait()
    assert background.bring_up_to_date(tmp_path, where)
    assert len(started) == 2


def test_a_server_that_never_answers_costs_the_stated_delay(
    tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "DELAY_S", DELAY_S)
    folder = write_run(tmp_path / "steps" / "a")
    started = feeders(monkeypatch)
    with background.followed(folder, Place(silent, "anneal", tmp_path / "mlartifacts")):
        pass
    assert [feeder.returncode for feeder in started] == [-signal.SIGKILL]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "longer than 2 s" in warning
    assert f"sweep sync {folder}" in warning
    assert "hunter2" not in warning


def test_what_was_waited_for_in_vain_is_not_waited_for_again(
    tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run and then its sweep: together they wait no longer than the run alone, as nothing was done in between."""
    monkeypatch.setattr(background, "DELAY_S", DELAY_S)
    where, waits = Place(silent, "anneal", tmp_path / "mlartifacts"), waited(monkeypatch)
    folder = write_run(tmp_path / "steps" / "a")
    with background.followed(folder, where):
        pass
    assert not background.bring_up_to_date(folder.parent, where)
    assert waits[0] == pytest.approx(DELAY_S, abs=0.1)
    assert waits[1] < DELAY_S / 2
    background.background(where)._budget_full_at -= 3600
    assert not background.bring_up_to_date(folder.parent, where)
    assert waits[2] == pytest.approx(DELAY_S, abs=0.1), "after an hour's work it is asked again in earnest"


def test_a_server_that_is_not_there_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = write_run(tmp_path / "steps" / "a")
    nowhere = Place(f"http://me:hunter2@127.0.0.1:{port}", "anneal", tmp_path / "mlartifacts")
    with caplog.at_level(logging.WARNING), background.followed(folder, nowhere):
        pass
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "Connection" in warning
    assert "hunter2" not in warning
    assert "\n" not in warning


@pytest.mark.parametrize("token", ["hunter2\n", "hunter2\nand more\n"])
def test_a_token_that_an_error_quotes_is_masked(token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As one read from a file with its newline, which no header may have."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
    with pytest.raises(MlflowException, match="hunter2") as refused:
        Connection("http://127.0.0.1:9", "anneal", tmp_path)
    assert "Bearer ***" in in_a_line(refused.value)


def test_a_run_that_ends_without_an_outcome_is_not_waited_for(
    tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = feeders(monkeypatch)
    folder = write_run(tmp_path / "steps" / "a", status=None)
    with (
        pytest.raises(KeyError),
        background.followed(folder, Place(silent, "anneal", tmp_path / "mlartifacts")),
    ):
        raise KeyError
    assert [feeder.returncode for feeder in started] == [-signal.SIGKILL]


RUN = """
import sys, time
from pathlib import Path
from sweep.tracking.place import Place
from sweep.tracking import Journal, background, view
with background.followed(Path(sys.argv[1]), Place(sys.argv[2], "anneal", Path(sys.argv[3]))):
    print("on", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_run_is_shown_as_killed_and_nothing_stays_behind(tmp_path: Path, where: Place) -> None:
    folder = write_run(tmp_path / "steps" / "a", status=None)
    background.prepare(where)
    words = [sys.executable, "-c", RUN, str(folder), where.tracking_uri, str(where.artifact_root)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "on\n"
        (feeder,) = _children(killed.pid)
        killed.kill()
    _wait(lambda: born(feeder) is None)
    (run,) = points(where)
    assert run.info.status == "KILLED"
    assert run.data.tags["sweep.key"] == ATTEMPT["key"]
    assert run.data.metrics["train/tokens"] == 20480


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait(over: Callable[[], bool], *, within_s: float = 240.0) -> None:
    deadline = time.monotonic() + within_s
    while not over():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_no_secret_is_in_the_command_line(tmp_path: Path, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    monkeypatch.setattr(background.subprocess, "Popen", lambda command, **_: words.extend(command) or _refuse())
    assert not background.bring_up_to_date(tmp_path, Place(silent, "anneal", tmp_path / "mlartifacts"))
    assert words
    assert not any("hunter2" in word for word in words)


def _refuse() -> None:
    raise OSError("no process can be made")
