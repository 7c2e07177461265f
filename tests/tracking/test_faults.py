"""Whatever happens to MLflow, the disk or a process: one outcome a run, and after `sync` MLflow equals the journals."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sweep.commands import sync
from sweep.tracking import Journal, background, read
from sweep.tracking.place import Place

from .conftest import ATTEMPT, write_run
from .proxy import Proxy, kill, proxy
from .servers import Lab, journalled, query, statuses, stored

__all__ = ["proxy"]

pytestmark = [pytest.mark.slow]
OUTAGE_S, LOCKED_S = 30.0, 60.0


@pytest.fixture
def experiment(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.node.name} {tmp_path.name}"


def attempt(experiment: str, name: str) -> dict[str, Any]:
    config = f"tracking: {{name: server, enabled: true, uri: null, experiment: '{experiment}'}}\n"
    return {**ATTEMPT, "key": f"key {name}", "name": name, "config_yaml": config}


def make(folder: Path, experiment: str, **changed: Any) -> Path:
    return write_run(folder, **attempt(experiment, folder.name), **changed)


def at(uri: str, *folders: Path) -> list[sync.Part]:
    """The runs, as they belong into the MLflow at `uri`."""
    return [
        dataclasses.replace(part, place=dataclasses.replace(part.place, tracking_uri=uri))
        for part in sync.parts(list(folders))[0]
    ]


def settle(uri: str, *folders: Path) -> None:
    """Sync, and find no difference; each run has ended once."""
    for part in at(uri, *folders):
        assert sync.sync(part)
        assert sync.check(part)
    assert [(f / "journal.jsonl").read_bytes().count(b'{"event":"outcome"') for f in folders] == [1] * len(folders)


RUN = """
import json, sys, time
from pathlib import Path
from sweep.tracking.place import Place
from sweep.tracking import Journal, background, read
folder, uri, experiment, root, attempt, pause, until, background.DELAY_S = *sys.argv[1:8], float(sys.argv[8])
with Journal(Path(folder)) as journal:
    journal.write("attempt", **json.loads(attempt))
    update = max((step["update"] for step in read(Path(folder)).steps), default=0) // 10 * 10
    with background.followed(Path(folder), Place(uri, experiment, Path(root))):
        print("on", flush=True)
        while not update or update % 20 or (until and not Path(until).exists()):
            update += 1
            time.sleep(float(pause))
            journal.write("step", update=update, lr=1e-3, loss=4 - update / 1000, grad_norm=0.5, param_norm=30.0,
                          tokens=1024 * update, seconds=0.01, update_norm=None)
        journal.write("outcome", status="finished", error=None, result=None)
"""


def running(
    folder: Path, uri: str, experiment: str, *, pause: float = 0.05, until: Path | None = None, delay_s: float = 120.0
) -> subprocess.Popen[str]:
    """A run that has begun, and does nothing but write 20 updates, and more until that file is there.

    Killed, it goes on from its last tenth update. Its feeder has `delay_s` at its end.
    """
    words = [str(folder), uri, experiment, str(folder.parents[1] / "mlartifacts")]
    words += [json.dumps(attempt(experiment, folder.name)), str(pause), str(until or ""), str(delay_s)]
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert run.stdout
    assert run.stdout.readline() == "on\n"
    return run


def said(run: subprocess.Popen[str]) -> list[str]:
    """What a run that ends well said, a line each."""
    _, told = run.communicate(timeout=400)
    assert run.returncode == 0, told
    return told.splitlines()


@contextmanager
def locked(database: Path, seconds: float) -> Iterator[threading.Timer]:
    """Nobody else writes into the SQLite file for so long; the timer ends then."""
    lock = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, lambda: (lock.execute("ROLLBACK"), lock.close()))
    timer.start()
    yield timer
    timer.join()


def killed_over_and_over(folder: Path, uri: str, experiment: str, times: int) -> None:
    dice = random.Random(0)
    for _ in range(times):
        run = running(folder, uri, experiment, pause=0.005, until=folder / "never")
        time.sleep(dice.uniform(0, 0.5))
        run.send_signal(signal.SIGKILL)
        run.communicate()


def test_a_server_killed_for_30_s_a_database_locked_for_60_s_and_20_kills_cost_nothing(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path
) -> None:
    """All in one minute, as each of them is mostly waiting."""
    server, elsewhere = lab("postgres"), f"sqlite:///{tmp_path}/elsewhere.db"
    over, files = tmp_path / "over", {name: tmp_path / f"{name}.db" for name in ("locked", "killed")}
    for file in files.values():
        background.prepare(Place(f"sqlite:///{file}", experiment, tmp_path / "mlartifacts"))
    sweep = tmp_path / "main"
    beside = running(sweep / "beside the outage", server.uri, experiment, until=over)
    unlucky = running(sweep / "never told", server.uri, experiment, until=tmp_path / "off", delay_s=5)
    time.sleep(5)
    kill(server)
    outage = threading.Timer(OUTAGE_S, server.start)
    outage.start()
    (tmp_path / "off").touch()
    within = running(sweep / "within the outage", server.uri, experiment, delay_s=5)
    for run in (unlucky, within):
        (line,) = said(run)
        assert line.startswith("not yet sent to MLflow")
    with locked(files["locked"], LOCKED_S) as lock:
        shut_out = running(tmp_path / "locks" / "p", f"sqlite:///{files['locked']}", experiment, delay_s=1)
        (line,) = said(shut_out)
        assert line.startswith("not yet sent to MLflow")
        (part,) = at(f"sqlite:///{files['locked']}", tmp_path / "locks" / "p")
        killed_over_and_over(tmp_path / "kills" / "p", f"sqlite:///{files['killed']}", experiment, 20)
        assert not lock.is_alive() or not sync.check(part), "nothing came through the lock"
        while lock.is_alive() and not sync.sync(part):
            pass

    outage.join()
    over.touch()
    assert said(beside) == []
    mine = [row for row in journalled(sweep) if row[0] == "key beside the outage"]
    assert [row for row in stored(server.query, experiment) if row[0] == mine[0][0]] == mine, "without any sync"
    settle(server.uri, *(path.parent for path in sorted(sweep.glob("*/journal.jsonl"))))
    assert stored(server.query, experiment) == journalled(sweep)
    names = ("beside the outage", "never told", "within the outage")
    assert statuses(server.query, experiment) == [(f"key {name}", "FINISHED") for name in names]

    settle(elsewhere, sweep / "never told")
    ask = partial(query, tmp_path / "elsewhere.db")
    assert statuses(ask, experiment) == [("key never told", "FINISHED")]

    settle(f"sqlite:///{files['locked']}", tmp_path / "locks" / "p")
    ask = partial(query, files["locked"])
    assert stored(ask, experiment) == journalled(tmp_path / "locks")
    assert statuses(ask, experiment) == [("key p", "FINISHED")]

    assert said(running(tmp_path / "kills" / "p", f"sqlite:///{files['killed']}", experiment)) == []
    settle(f"sqlite:///{files['killed']}", tmp_path / "kills" / "p")
    ask = partial(query, files["killed"])
    assert stored(ask, experiment) == journalled(tmp_path / "kills")
    assert statuses(ask, experiment) == [("key p", "FINISHED")]
    assert len(read(tmp_path / "kills" / "p").attempts) == 21


@pytest.mark.parametrize("call", ["runs/create", "runs/log-batch", "runs/update", "experiments/create"])
@pytest.mark.parametrize("fault", ["lose", "refuse"])
def test_a_lost_answer_or_call_makes_nothing_twice(
    proxy: Proxy, lab: Callable[[str], Lab], experiment: str, tmp_path: Path, call: str, fault: str
) -> None:
    folder = make(tmp_path / "main" / "p", experiment)
    lost: list[str] = []

    def once(method: str, path: str) -> str | None:
        if path.endswith(call) and not lost:
            lost.append(path)
            return fault
        return None

    proxy.fault = once
    for part in at(proxy.uri, folder):
        sync.sync(part)  # it tries again by itself where that is of use
    assert lost
    settle(proxy.uri, folder)
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
    folder = make(tmp_path / "main" / "p", experiment, status=None)
    proxy.fault = lambda method, path: "hang" if path.endswith("log-batch") else None
    monkeypatch.setattr(background, "DELAY_S", 1.0)
    with background.followed(folder, Place(proxy.uri, experiment, tmp_path / "mlartifacts")):
        while not any(call.endswith("log-batch") for call in proxy.seen):
            time.sleep(0.05)
        with Journal(folder) as journal:
            journal.write("outcome", status="finished", error=None, result=None)
    assert "longer than 1 s" in caplog.text
    proxy.done.set()
    proxy.fault = lambda method, path: None
    settle(proxy.uri, folder)
    assert stored(lab("sqlite").query, experiment) == journalled(tmp_path / "main")
    assert statuses(lab("sqlite").query, experiment) == [("key p", "FINISHED")]


def test_a_sync_killed_half_way_and_three_at_once_end_with_everything_once(
    lab: Callable[[str], Lab], experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = lab("sqlite")
    folders = [make(tmp_path / "main" / f"p{number}", experiment, steps=300) for number in range(6)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    words = [sys.executable, "-m", "sweep", "sync", str(tmp_path / "main")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        while not statuses(server.query, experiment):
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    assert stored(server.query, experiment) != journalled(tmp_path / "main")
    together = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(240) for process in together] == [0, 0, 0]
    settle(server.uri, *folders)
    assert stored(server.query, experiment) == journalled(tmp_path / "main")
    assert statuses(server.query, experiment) == [(f"key p{number}", "FINISHED") for number in range(6)]


FULL = """
import resource, sys
from pathlib import Path
from tests.tracking.conftest import write_run
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # SIGXFSZ is ignored by Python: a write fails
write_run(Path(sys.argv[1]))
"""


def test_a_disk_that_fills_while_journalling_fails_the_run_and_the_next_attempt_ends_it(
    experiment: str, tmp_path: Path
) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    folder = tmp_path / "main" / "p"
    failed = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "File too large" in failed.stderr or "written whole" in failed.stderr
    assert read(folder).outcome is None
    assert read(folder).damaged == ()
    make(folder, experiment)
    settle(f"sqlite:///{tmp_path}/mlflow.db", folder)
    assert len(read(folder).attempts) == 2


def test_a_damaged_journal_is_synced_without_its_damaged_lines_which_a_check_names(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, uri = make(tmp_path / "main" / "p", experiment), f"sqlite:///{tmp_path}/mlflow.db"
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    lines[7] = lines[7].replace(b'"loss":3', b'"loss":2')
    journal.write_bytes(b"\n".join(lines) + b'{"event":"step","upd')
    assert read(folder).damaged == (8,)
    (part,) = at(uri, folder)
    assert sync.sync(part)
    capsys.readouterr()
    assert not sync.check(part)
    assert "1 differences\n  p: line 8 of its journal can't be read: what was written there is lost\n" in (
        capsys.readouterr().out
    )
    assert journal.read_bytes().count(b'{"event":"outcome"') == 1
    ask = partial(query, tmp_path / "mlflow.db")
    assert stored(ask, experiment) == journalled(tmp_path / "main")
    assert statuses(ask, experiment) == [("key p", "FINISHED")]


def test_a_run_that_lost_its_journal_and_what_it_had_sent_is_the_same_run_of_mlflow_when_it_is_made_again(
    experiment: str, tmp_path: Path
) -> None:
    folders, uri = (
        [make(tmp_path / "main" / name, experiment) for name in ("p", "q")],
        f"sqlite:///{tmp_path}/mlflow.db",
    )
    settle(uri, *folders)
    for file in ("journal.jsonl", "mlflow.json"):
        (folders[1] / file).unlink()
    make(folders[1], experiment)
    settle(uri, *folders)
    ask = partial(query, tmp_path / "mlflow.db")
    assert statuses(ask, experiment) == [("key p", "FINISHED"), ("key q", "FINISHED")]
