"""The same journals into a SQLite file, a server on SQLite and a server on PostgreSQL: nothing is lost on any."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient

from sweep.commands import sync
from sweep.tracking import Journal

from .conftest import score, write_run
from .servers import Lab, journalled, query, statuses, stored

pytestmark = pytest.mark.slow
WRITERS = 16


class Place(NamedTuple):
    """An MLflow, and a way to its database past it."""

    uri: str
    ask: Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(params=["file", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest, lab: Callable[[str], Lab], tmp_path: Path) -> Place:
    """Cold: the file is not there yet; to a server the experiment is new."""
    if request.param == "file":
        return Place(f"sqlite:///{tmp_path}/mlflow.db", partial(query, tmp_path / "mlflow.db"))
    server = lab(request.param)
    return Place(server.uri, server.query)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return request.node.name


def make(folder: Path, experiment: str, **changed: Any) -> Path:
    config = f"tracking: {{name: server, enabled: true, uri: null, experiment: '{experiment}'}}\n"
    return write_run(folder, key=f"key {folder.name}", name=folder.name, config_yaml=config, **changed)


WRITE = """
import os, sys, traceback
from pathlib import Path
from sweep.tracking.connection import Connection
from sweep.tracking.projection import project
sweep, uri, experiment, root = sys.argv[1:]
children = []
for folder in sorted(Path(sweep).iterdir()):
    children.append(os.fork())  # forked before anything is connected: a process of its own without its imports
    if not children[-1]:
        try:
            project(folder, Connection(uri, experiment, Path(root)), alive=False)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def test_sixteen_writers_on_a_cold_experiment_lose_nothing(place: Place, experiment: str, tmp_path: Path) -> None:
    for number in range(WRITERS):
        make(tmp_path / "main" / f"p{number:02}", experiment)
    words = [sys.executable, "-c", WRITE, str(tmp_path / "main"), place.uri, experiment, str(tmp_path / "mlartifacts")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert stored(place.ask, experiment) == journalled(tmp_path / "main")
    assert statuses(place.ask, experiment) == [(f"key p{number:02}", "FINISHED") for number in range(WRITERS)]


def test_what_the_backend_has_no_form_for_is_kept_and_told(
    place: Place, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PostgreSQL enforces lengths, and refuses NUL and half a surrogate pair, where SQLite takes all."""
    odd = {"a,b": 1, "long": "x" * 9000, "ä/ö": "日本 \U0001f600", "nul": "a\0b", "half": "\ud800", "q": "it's \"%_\\"}
    numbers = {1: {"loss": math.nan}, 2: {"loss": math.inf}, 3: {"grad_norm": -math.inf}, 4: {"loss": 5e-324}}
    folder = make(
        tmp_path / "it's odd %_" / "p", experiment, params=odd, command="c\0" * 9000, changed=numbers, status=None
    )
    with Journal(folder) as journal:
        journal.write("scores", when="after", scores=[score("arc,easy " * 40, "acc,none", -1.7976931348623157e308)])
        journal.write("outcome", status="failed", error="RuntimeError: " + "\0\ud800 " * 9000, result=None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    (part,) = sync.parts([folder])[0]
    assert sync.sync(part), capsys.readouterr().out
    assert sync.check(part), capsys.readouterr().out
    assert stored(place.ask, experiment) == journalled(folder.parent)
    assert statuses(place.ask, experiment) == [("key p", "FAILED")]
    (found,) = (
        run
        for run in MlflowClient(place.uri).search_runs(
            [MlflowClient(place.uri).get_experiment_by_name(experiment).experiment_id]
        )
        if "sweep.key" in run.data.tags
    )
    assert found.data.tags["sweep.infinite"] == "train/loss in 1 updates from 2, train/grad_norm in 1 updates from 3"
    assert found.data.params["_/_"] == "日本 \U0001f600"


def test_a_stopped_server_has_everything_when_it_starts_again(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = lab("postgres")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    folder = make(tmp_path / "main" / "p", experiment)
    assert all(sync.sync(part) for part in sync.parts([folder])[0])
    assert server.stop() == 0
    server.start()
    assert server.said == f"export MLFLOW_TRACKING_URI={server.uri}\n"
    assert stored(server.query, experiment) == journalled(tmp_path / "main")
    assert all(sync.check(part) for part in sync.parts([folder])[0])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_server_that_was_killed_starts_again_by_the_same_command(lab: Callable[[str], Lab], backend: str) -> None:
    """Its MLflow and its PostgreSQL run on, and hold the port and the database."""
    server = lab(backend)
    server.process.kill()
    server.process.communicate()
    server.start()
    assert server.said == f"export MLFLOW_TRACKING_URI={server.uri}\n"
    assert server.stop() == 0
    assert not (server.folder / "mlflow.process.json").exists()
    server.start()
