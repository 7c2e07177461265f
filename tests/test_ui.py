"""`python -m sweep.ui`: serves what the runs left, and says where to click."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from sweep.ui import experiments


def test_without_outcomes_it_says_how_to_make_some(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sweep.ui"], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert shown.returncode != 0
    assert "make sweep" in shown.stderr


def test_only_experiments_with_runs_are_offered(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    connection = sqlite3.connect(database)
    connection.executescript(
        "create table experiments (experiment_id int, name text); create table runs (experiment_id int);"
        "insert into experiments values (0, 'Default'), (1, 'sweep'); insert into runs values (1), (1);"
    )
    connection.close()
    assert experiments(database) == [("1", "sweep")]


@pytest.mark.slow
def test_the_page_is_served_on_loopback_until_interrupted(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    (tmp_path / "multirun").mkdir()
    client = MlflowClient(f"sqlite:///{tmp_path / 'multirun' / 'mlflow.db'}")
    client.create_run(client.create_experiment("sweep"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-m", "sweep.ui", str(port)], cwd=tmp_path, text=True, stdout=subprocess.PIPE
    ) as server:
        assert server.stdout is not None
        line = next(text for text in server.stdout if text.startswith("sweep: "))
        assert f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning" in line
        assert b"MLflow" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0


def test_a_taken_port_is_said_and_not_linked_to(tmp_path: Path) -> None:
    (tmp_path / "multirun").mkdir()
    (tmp_path / "multirun" / "mlflow.db").touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        shown = subprocess.run(
            [sys.executable, "-m", "sweep.ui", str(port)], cwd=tmp_path, text=True, capture_output=True, check=False
        )
    assert (shown.returncode, shown.stdout) == (1, "")
    assert f"port {port} is taken" in shown.stderr


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sweep.ui", "70000"], cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert shown.returncode == 2
    assert "70000 is not a port" in shown.stderr
