"""`sweep server [PORT]`: an MLflow server on PostgreSQL, everything it keeps in one folder.

PostgreSQL is Debian's and listens on a Unix socket alone. It refuses to run as root, who runs it as user postgres.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Never

from filelock import FileLock, Timeout

LOOPBACK = "127.0.0.1"
LOCK = ".server.lock"
USER = "postgres"
"""Who runs PostgreSQL where we are root; Debian's package makes that user."""
DEBIAN = Path("/usr/lib/postgresql")
STARTING_S, STOPPING_S = 120.0, 30.0
PRIVATE = ("10.*", "192.168.*", *(f"172.{number}.*" for number in range(16, 32)))
"""MLflow's own default besides loopback, which naming hosts replaces."""


def main() -> None:
    """Serve until Ctrl-C or SIGTERM, then stop MLflow and PostgreSQL in this order."""
    parser = argparse.ArgumentParser(prog="sweep server", description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=5000, help="5000 where none is given")
    parser.add_argument("--folder", type=Path, default=Path("multirun/mlflow-server"), help="where everything is kept")
    parser.add_argument("--backend", choices=("postgres", "sqlite"), default="postgres", help="what keeps the runs")
    parser.add_argument("--host", default=LOOPBACK, help="0.0.0.0 lets the network in; MLflow asks nobody who they are")
    parser.add_argument("--workers", type=int, default=2, help="of the MLflow server, about 300 MB each; 2")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    folder = chosen.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as running:
        try:
            running.enter_context(FileLock(folder / LOCK, timeout=0))
        except Timeout:
            sys.exit(f"--folder={folder} is served by another process already: stop that one, or choose another folder")
        _check_free(chosen.host, chosen.port)
        if chosen.backend == "postgres":
            postgres, database = running.enter_context(postgresql(folder / "postgres"))
        else:
            postgres, database = None, f"sqlite:///{folder / 'mlflow.db'}"
        mlflow = running.enter_context(
            mlflow_server(database, folder, host=chosen.host, port=chosen.port, workers=chosen.workers)
        )
        name = LOOPBACK if chosen.host == LOOPBACK else socket.gethostname()
        sys.stdout.write(f"export MLFLOW_TRACKING_URI=http://{name}:{chosen.port}\n")
        sys.stdout.write(f"kept in {folder}; stop with Ctrl-C\n")
        sys.stdout.flush()
        while mlflow.poll() is None and (postgres is None or postgres.poll() is None):
            time.sleep(0.2)
        ended, log = ("PostgreSQL", "postgres.log") if mlflow.poll() is None else ("MLflow", "mlflow.log")
        sys.exit(f"{ended} ended by itself: {folder / log} says why")


@contextlib.contextmanager
def postgresql(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """PostgreSQL on the cluster in `data`, made where absent: its process, and its address for MLflow.

    Exits with what to do where it isn't installed or can't run.
    """
    if importlib.util.find_spec("psycopg") is None:
        sys.exit("psycopg is not installed: pip install 'sweep-anneal[postgres]', or give --backend sqlite")
    binaries, user = _binaries(data), _user(data.parent)
    with (
        tempfile.TemporaryDirectory(prefix="sweep-postgres-") as made,
        (data.parent / "postgres.log").open("ab") as log,
    ):
        sockets = Path(made)  # here, as a socket's whole path has at most 107 bytes; 0700, so that nobody else gets in
        if user:
            shutil.chown(sockets, USER, user["group"])
        if not data.exists():
            _make_cluster(binaries, data, user, log)
        elif (data / "postmaster.pid").exists():  # of a server that was killed; one still alive is stopped
            words = [str(binaries / "pg_ctl"), "stop", "-D", str(data), "-m", "fast"]
            subprocess.run(words, stdout=log, stderr=log, check=False, **user)
        settings = ["listen_addresses=", "max_connections=300"]
        words = [str(binaries / "postgres"), "-D", str(data), "-k", made, *(w for s in settings for w in ("-c", s))]
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, **user)
        with _stopped(process, signal.SIGINT):  # a "fast" shutdown: sessions are ended, everything is on the disk
            ready = [str(binaries / "pg_isready"), "-q", "-h", made]
            _wait(process, lambda: not subprocess.run(ready, check=False).returncode, "PostgreSQL", Path(log.name))
            yield process, f"postgresql+psycopg://{USER}@/postgres?host={made}"


@contextlib.contextmanager
def mlflow_server(
    database: str, folder: Path, *, host: str, port: int, workers: int
) -> Iterator[subprocess.Popen[bytes]]:
    """`mlflow server` on that database, artifacts in `folder`, once it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", str(workers)]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(folder / "artifacts")]
    command += ["--uvicorn-opts", "--log-level warning"]
    if host != LOOPBACK:
        names = (LOOPBACK, "localhost", socket.gethostname(), socket.getfqdn(), host)
        command += ["--allowed-hosts", ",".join([*dict.fromkeys(f"{name}:{port}" for name in names), *PRIVATE])]
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    asked = LOOPBACK if host == "0.0.0.0" else host
    with _stopped(process, signal.SIGTERM):
        _wait(process, lambda: _healthy(f"http://{asked}:{port}/health"), "MLflow", folder / "mlflow.log")
        yield process


def _binaries(data: Path) -> Path:
    """The folder of PostgreSQL's programs: of the version that made `data`, else of the newest one."""
    made_by = data / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.is_file() else None
    found = {path.parent.name: path for path in DEBIAN.glob("*/bin") if (path / "initdb").is_file()}
    if version in found:
        return found[version]
    if version is None and found:
        return found[max(found, key=float)]
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().parent
    wanted = "postgresql" if version is None else f"postgresql-{version}, which made {data},"
    sys.exit(f"{wanted} is not installed: apt-get install postgresql, or give --backend sqlite")


def _user(folder: Path) -> dict[str, Any]:
    """Popen's arguments that make it another user where we are root, who must be able to enter `folder`."""
    if os.geteuid():
        return {}
    try:
        group = pwd.getpwnam(USER).pw_gid
    except KeyError:
        sys.exit(f"PostgreSQL refuses to run as root, and there is no user {USER}: apt-get install postgresql")
    user: dict[str, Any] = {"user": USER, "group": group, "extra_groups": []}
    if subprocess.run(["test", "-x", str(folder)], check=False, **user).returncode:
        sys.exit(
            f"--folder={folder}: PostgreSQL refuses to run as root and is run as {USER}, who may not enter there: "
            "choose a folder that everybody may enter, be a plain user, or give --backend sqlite"
        )
    return user


def _make_cluster(binaries: Path, data: Path, user: dict[str, Any], log: Any) -> None:
    """A new database cluster, whole or absent."""
    part = data.with_name("postgres.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    if user:
        shutil.chown(part, USER, user["group"])
    words = ["-D", str(part), "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]
    made = subprocess.run([str(binaries / "initdb"), *words], stdout=log, stderr=log, check=False, **user)
    if made.returncode:
        sys.exit(f"initdb failed: {log.name} says why")
    part.rename(data)


@contextlib.contextmanager
def _stopped(process: subprocess.Popen[bytes], how: signal.Signals) -> Iterator[None]:
    """End the process in the end, in its own way, by force where that takes too long."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], is_ready: Any, name: str, log: Path) -> None:
    deadline = time.monotonic() + STARTING_S
    while not is_ready():
        if process.poll() is not None:
            sys.exit(f"{name} did not start: {log} says why")
        if time.monotonic() > deadline:
            sys.exit(f"{name} did not answer within {STARTING_S:.0f} s: {log} says why")
        time.sleep(0.1)


def _healthy(address: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _check_free(host: str, port: int) -> None:
    try:
        socket.create_server((host, port)).close()
    except (OSError, OverflowError) as error:
        sys.exit(f"port {port} of {host} can't be had ({error}): try `sweep server {port + 1}`")


def _interrupt(number: int, frame: FrameType | None) -> Never:
    raise KeyboardInterrupt
