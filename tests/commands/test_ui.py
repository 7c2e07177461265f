"""`sweep ui`: serves what the runs left, and says where to click."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweep.tracking import read, view
from tests.doors import sweep
from tests.tracking.conftest import write_run


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    """A folder with a database whose experiment has the view of a sweep."""
    (tmp_path / "multirun").mkdir()
    client = MlflowClient(f"sqlite:///{tmp_path / 'multirun' / 'mlflow.db'}")
    experiment = client.create_experiment("sweep")
    for key, value in view.tags({}, [read(write_run(tmp_path / "multirun" / "steps" / "a"))]).items():
        client.set_experiment_tag(experiment, key, value)
    return tmp_path


@pytest.fixture
def served(outcomes: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The first line that the door says, and its process."""
    command = [sys.executable, "-m", "sweep", "ui", str(port)]
    with subprocess.Popen(command, cwd=outcomes, text=True, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield server.stdout.readline(), server
        server.send_signal(signal.SIGINT)


def test_without_outcomes_it_says_how_to_make_some(tmp_path: Path) -> None:
    shown = sweep("ui", cwd=tmp_path)
    assert shown.returncode != 0
    assert "make sweep" in shown.stderr


@pytest.mark.slow
def test_one_link_opens_the_last_sweep_on_loopback_until_interrupted(
    served: tuple[str, subprocess.Popen[str]], port: int
) -> None:
    line, server = served
    assert line == view.link(f"http://sweep.localhost:{port}", "1", "sweep.steps") + "\n"
    for name in ("sweep.localhost", "127.0.0.1", "localhost"):
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": f"{name}:{port}"})
        assert b"MLflow" in urllib.request.urlopen(asked).read()
    elsewhere = sweep("ui", cwd=Path.cwd(), MLFLOW_TRACKING_URI=f"http://me:hunter2@127.0.0.1:{port}/")
    assert elsewhere.stdout == line.replace("sweep.localhost", "127.0.0.1"), (
        "a server's link is printed, without its password, and nothing is started"
    )
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/")


def test_a_taken_port_is_said_and_not_linked_to(tmp_path: Path, port: int) -> None:
    (tmp_path / "multirun").mkdir()
    (tmp_path / "multirun" / "mlflow.db").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        shown = sweep("ui", str(port), cwd=tmp_path)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"port {port} is taken" in shown.stderr


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    shown = sweep("ui", "70000", cwd=tmp_path)
    assert shown.returncode == 2
    assert "70000 is not a port" in shown.stderr
