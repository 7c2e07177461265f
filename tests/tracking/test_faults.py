"""Whatever happens to MLflow, the disk or a process: one outcome a run, and `sync` brings MLflow level with the journals."""

from __future__ import annotations

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep import sync
from sweep.tracking import live, read

from .conftest import ATTEMPT, write_run
from .proxy import Proxy, kill, proxy
from .servers import Lab, journalled, query, statuses, stored

__all__ = ["proxy"]

pytestmark = [pytest.mark.slow]


@pytest.fixture
def experiment(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.node.name} {tmp_path.name}"


def attempt(experiment: str, name: str) -> dict[str, Any]:
    config = f"tracking: {{name: server, enabled: true, uri: null, experiment: '{experiment}'}}\n"
    return {**ATTEMPT, "key": f"key {name}", "name": name, "config_yaml": config}


def make(folder: Path, experiment: str, **changed: Any) -> Path:
    return write_run(folder, **attempt(experiment, folder.name), **changed)


def settle(monkeypatch: pytest.MonkeyPatch, uri: str, *folders: Path) -> None:
    """Sync, and find no difference."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for part in sync.parts(list(folders)):
        assert sync.sync(part)
        assert sync.check(part)


RUN = """
import json, sys, time
from pathlib import Path
from sweep.tracking import live, read
folder, uri, experiment, root, attempt, updates, pause = sys.argv[1:]
live.DELAY_S = 5.0
with Journal(Path(folder)) as journal:
    journal.write("attempt", **json.loads(attempt))
    done = max((step["update"] for step in read(Path(folder)).steps), default=0) // 10 * 10
    with live.followed(Path(folder), live.Where(uri, experiment, Path(root))):
        print("on", flush=True)
        for update in range(done + 1, int(updates) + 1):
            time.sleep(float(pause))
            journal.write("step", update=update, lr=1e-3, loss=4 - update / 1000, grad_norm=0.5, param_norm=30.0,
                          tokens=1024 * update, seconds=0.01, update_norm=None)
        journal.write("outcome", status="finished", error=None, result=None)
"""


def running(folder: Path, uri: str, experiment: str, *, updates: int, pause: float) -> subprocess.Popen[str]:
    """A run that does nothing but write its journal; killed, it goes on from its last tenth update."""
    import json

    words = [str(folder), uri, experiment, str(folder.parents[1] / "mlartifacts")]
    words += [json.dumps(attempt(experiment, folder.name)), str(updates), str(pause)]
    return subprocess.Popen([sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, text=True)


def test_a_server_that_is_killed_and_comes_back_has_everything(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = lab("postgres"), tmp_path / "main" / "p"
    with running(folder, server.uri, experiment, updates=200, pause=0.1) as run:
        assert run.stdout
        assert run.stdout.readline() == "on\n"
        time.sleep(5)
        kill(server)
        time.sleep(2)
        server.start()
        run.communicate()
    assert run.returncode == 0
    settle(monkeypatch, server.uri, folder)
    assert stored(server.query, experiment) == journalled(tmp_path / "main")
    assert statuses(server.query, experiment) == [("key p", "FINISHED")]


def test_a_server_that_was_away_for_the_whole_sweep_is_told_later(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = lab("sqlite")
    for name in ("p", "q"):
        with running(tmp_path / "main" / name, "http://127.0.0.1:9", experiment, updates=20, pause=0.01) as run:
            run.communicate()
        assert run.returncode == 0
    settle(monkeypatch, server.uri, tmp_path / "main" / "p", tmp_path / "main" / "q")
    assert statuses(server.query, experiment) == [("key p", "FINISHED"), ("key q", "FINISHED")]


@pytest.mark.parametrize("call", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"])
@pytest.mark.parametrize("fault", ["lose", "refuse"])
def test_a_lost_answer_or_call_makes_nothing_twice(
    proxy: Proxy,
    lab: Callable[[str], Lab],
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    fault: str,
) -> None:
    folder = make(tmp_path / "main" / "p", experiment)
    lost: list[str] = []

    def once(method: str, path: str) -> str | None:
        if path.endswith(call) and not lost:
            lost.append(path)
            return fault
        return None

    proxy.fault = once
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    for part in sync.parts([folder]):
        sync.sync(part)  # it tries again by itself where that is of use
    assert lost
    proxy.fault = lambda method, path: None
    settle(monkeypatch, proxy.uri, folder)
    assert stored(lab("sqlite").query, experiment) == journalled(tmp_path / "main")
    assert statuses(lab("sqlite").query, experiment) == [("key p", "FINISHED")]


def test_a_server_that_hangs_in_the_middle_costs_the_stated_delay_and_gets_the_rest_later(
    proxy: Proxy,
    lab: Callable[[str], Lab],
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = make(tmp_path / "main" / "p", experiment)
    proxy.fault = lambda method, path: "hang" if path.endswith("log-batch") else None
    monkeypatch.setattr(live, "DELAY_S", 8.0)
    with live.followed(folder, live.Where(proxy.uri, experiment, tmp_path / "mlartifacts")):
        pass
    assert "longer than 8 s" in caplog.text
    proxy.done.set()
    proxy.fault = lambda method, path: None
    settle(monkeypatch, proxy.uri, folder)
    assert statuses(lab("sqlite").query, experiment) == [("key p", "FINISHED")]


def test_a_run_killed_twenty_times_has_each_point_once(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, folder, dice = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "main" / "p", random.Random(0)
    live.prepare(live.Where(uri, experiment, tmp_path / "mlartifacts"))
    for _ in range(20):
        with running(folder, uri, experiment, updates=10_000, pause=0.005) as run:
            assert run.stdout
            assert run.stdout.readline() == "on\n"
            time.sleep(dice.uniform(0, 0.5))
            run.send_signal(signal.SIGKILL)
    done = max(step["update"] for step in read(folder).steps)
    with running(folder, uri, experiment, updates=done + 20, pause=0) as run:
        run.communicate()
    assert run.returncode == 0
    settle(monkeypatch, uri, folder)
    ask = lambda sql, *values: query(tmp_path / "mlflow.db", sql, *values)  # noqa: E731
    assert stored(ask, experiment) == journalled(tmp_path / "main")
    assert statuses(ask, experiment) == [("key p", "FINISHED")]
    assert len(read(folder).attempts) == 21


def test_a_sync_killed_half_way_and_three_at_once_end_with_everything_once(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = lab("sqlite")
    folders = [make(tmp_path / "main" / f"p{number}", experiment, steps=300) for number in range(6)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    words = [sys.executable, "-m", "sweep.sync", str(tmp_path / "main")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        while not statuses(server.query, experiment):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    together = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(240) for process in together] == [0, 0, 0]
    settle(monkeypatch, server.uri, *folders)
    assert stored(server.query, experiment) == journalled(tmp_path / "main")
    assert statuses(server.query, experiment) == [(f"key p{number}", "FINISHED") for number in range(6)]


def test_a_database_locked_for_a_minute_gets_everything(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than MLflow waits, 20 s, and shorter than a sync tries."""
    folder = make(tmp_path / "main" / "p", experiment)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    live.prepare(live.Where(uri, experiment, tmp_path / "mlartifacts"))
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(60.0, lambda: (lock.execute("ROLLBACK"), lock.close()))
    timer.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    words = [sys.executable, "-m", "sweep.sync", str(tmp_path / "main")]
    while subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        pass
    timer.join()
    settle(monkeypatch, uri, folder)


FULL = """
import resource, sys
from pathlib import Path
from tests.tracking.conftest import write_run
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # SIGXFSZ is ignored by Python: a write fails
write_run(Path(sys.argv[1]))
"""


def test_a_disk_that_fills_while_journalling_fails_the_run_and_the_next_attempt_ends_it(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    folder = tmp_path / "main" / "p"
    failed = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "File too large" in failed.stderr or "written whole" in failed.stderr
    assert read(folder).outcome is None
    assert read(folder).damaged == ()
    make(folder, experiment)
    settle(monkeypatch, f"sqlite:///{tmp_path}/mlflow.db", folder)
    assert len(read(folder).attempts) == 2


def test_a_damaged_journal_is_synced_without_its_damaged_lines(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, uri = make(tmp_path / "main" / "p", experiment), f"sqlite:///{tmp_path}/mlflow.db"
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[7] = lines[7].replace(b'"loss":3', b'"loss":2')
    journal.write_bytes(b"\n".join(lines) + b'{"event":"step","upd')
    assert read(folder).damaged == (8,)
    settle(monkeypatch, uri, folder)
    ask = lambda sql, *values: query(tmp_path / "mlflow.db", sql, *values)  # noqa: E731
    assert stored(ask, experiment) == journalled(tmp_path / "main")
