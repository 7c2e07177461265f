"""MLflow as labs run it: servers of our own door."""

from __future__ import annotations

import math
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sweep.tracking import FILE, mlflow_values, read
from sweep.tracking.postgresql import DEBIAN


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Lab:
    """`sweep server` on a folder of its own."""

    def __init__(self, backend: str) -> None:
        self.backend, self.port = backend, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        # short and open to all: PostgreSQL refuses root, and user postgres may not enter pytest's folders
        self.folder = Path(tempfile.mkdtemp(prefix="sweep-lab-"))
        self.folder.chmod(0o755)
        self.start()

    def start(self) -> None:
        words = [str(self.port), "--folder", str(self.folder), "--backend", self.backend, "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweep", "server", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.said = self.process.stdout.readline()
        if not self.said:
            raise AssertionError(self.process.communicate()[1] + (self.folder / "mlflow.log").read_text())

    def stop(self) -> int:
        """As a service manager does; the exit code."""
        self.process.terminate()
        self.process.communicate(timeout=60)
        return self.process.returncode

    def query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        """Asked of the database itself, past MLflow; `?` are the values."""
        if self.backend == "sqlite":
            return query(self.folder / "mlflow.db", sql, *values)
        import psycopg

        sockets = (self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[4]
        with psycopg.connect(host=sockets, user="postgres", dbname="postgres") as connection:
            return connection.execute(sql.replace("?", "%s"), values).fetchall()


def query(database: Path, sql: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, values).fetchall()


@pytest.fixture(scope="session")
def lab() -> Iterator[Callable[[str], Lab]]:
    """The server on SQLite or on PostgreSQL, one of each for the session."""
    started: dict[str, Lab] = {}

    def the(backend: str) -> Lab:
        if backend == "postgres" and not (list(DEBIAN.glob("*/bin/initdb")) or shutil.which("initdb")):
            pytest.skip("needs PostgreSQL: apt-get install postgresql")
        if backend not in started:
            started[backend] = Lab(backend)
        return started[backend]

    yield the
    for each in started.values():
        each.stop()
        shutil.rmtree(each.folder)


POINTS = """
    select t.value, m.key, m.value, m.timestamp, m.step from metrics m
    join runs r on r.run_uuid = m.run_uuid join experiments e on e.experiment_id = r.experiment_id
    join tags t on t.run_uuid = r.run_uuid and t.key = 'sweep.key' where e.name = ? and r.lifecycle_stage = 'active'
"""
RUNS = """
    select t.value, r.status from runs r join experiments e on e.experiment_id = r.experiment_id
    join tags t on t.run_uuid = r.run_uuid and t.key = 'sweep.key' where e.name = ? and r.lifecycle_stage = 'active'
"""


def stored(ask: Callable[..., list[tuple[Any, ...]]], experiment: str) -> list[tuple[Any, ...]]:
    """Every metric point of the experiment's points: key of the run, name, value (NaN is 0), timestamp, step."""
    return sorted(ask(POINTS, experiment))


def journalled(sweep_folder: Path) -> list[tuple[Any, ...]]:
    """What the journals of a sweep say, in the same form."""
    found = []
    for path in sweep_folder.glob(f"*/{FILE}"):
        events = read(path.parent)
        for point in (
            *mlflow_values.step_points(events),
            *mlflow_values.system_points(events),
            *mlflow_values.score_points(events),
        ):
            value = 0.0 if math.isnan(point.value) else point.value
            found.append((events.attempts[0]["key"], point.name, value, point.timestamp, point.step))
    return sorted(found)


def statuses(ask: Callable[..., list[tuple[Any, ...]]], experiment: str) -> list[tuple[str, str]]:
    """Key of the run and MLflow's status, of every run that is no sweep's."""
    return sorted(ask(RUNS, experiment))
