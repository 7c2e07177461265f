"""A PostgreSQL for MLflow: Debian's programs, all data in one folder, reached through a Unix socket alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.domain.errors import Refusal
from sweep.tracking.mlflow_server import serving

DEBIAN = Path("/usr/lib/postgresql")
USER = "postgres"
"""The user of Debian's package. PostgreSQL refuses to run as root, so root runs it as this user."""


@contextlib.contextmanager
def postgresql(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """PostgreSQL on the database cluster in `data`, made if it is absent: its process, and its address for MLflow.

    Raises Refusal, which says what to do, if it is not installed or can't run.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise Refusal("psycopg is not installed: pip install 'sweep-anneal[postgres]', or give --backend sqlite")
    programs, user, log = _programs(data), _user(data.parent), data.parent / "postgres.log"
    with tempfile.TemporaryDirectory(prefix="sweep-postgres-") as sockets:  # a socket's path has at most 107 bytes
        if user:
            shutil.chown(sockets, USER, USER)  # and nobody else gets in: its mode is 0700
        if not data.exists():
            _make_cluster(programs, data, user, log)
        elif (data / "postmaster.pid").exists():  # left by a server that was killed; one that is alive is stopped
            _call([programs / "pg_ctl", "stop", "-D", data, "-m", "fast"], user, log)
        command = [str(programs / "postgres"), "-D", str(data), "-k", sockets]
        command += ["-c", "listen_addresses=", "-c", "max_connections=300"]
        is_ready: list[Path | str] = [programs / "pg_isready", "-q", "-h", sockets]
        # at SIGINT it ends its sessions and shuts down ("fast"); at SIGTERM it would wait for them
        stop = {"stop": signal.SIGINT, **user}
        with serving(command, lambda: _call(is_ready, {}, log), "PostgreSQL", log, **stop) as process:
            yield process, f"postgresql+psycopg://{USER}@/postgres?host={sockets}"


def _programs(data: Path) -> Path:
    """The folder of PostgreSQL's programs: of the version that made `data`, or of the newest one."""
    made_by = data / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.is_file() else None
    versions = {path.parent.name: path for path in DEBIAN.glob("*/bin") if (path / "initdb").is_file()}
    chosen = version or max(versions, key=float, default="")
    if chosen in versions:
        return versions[chosen]
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().parent
    wanted = "postgresql" if version is None else f"postgresql-{version}, which made {data},"
    raise Refusal(f"{wanted} is not installed: apt-get install postgresql, or give --backend sqlite")


def _user(folder: Path) -> dict[str, Any]:
    """Popen's arguments for another user if this one is root; Refusal if that user can't enter `folder`."""
    if os.geteuid():
        return {}
    user: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []}
    try:
        enters = subprocess.run(["test", "-x", str(folder)], check=False, **user).returncode == 0
    except KeyError as error:
        raise Refusal(
            f"PostgreSQL refuses to run as root, and there is no user {USER}: apt-get install postgresql"
        ) from error
    if not enters:
        raise Refusal(
            f"--folder={folder}: PostgreSQL refuses to run as root and is run as {USER}, who may not enter there: "
            "choose a folder that everybody may enter, be a plain user, or give --backend sqlite"
        )
    return user


def _make_cluster(programs: Path, data: Path, user: dict[str, Any], log: Path) -> None:
    """Make a database cluster, whole or not at all."""
    part = data.with_name("postgres.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    if user:
        shutil.chown(part, USER, USER)
    options: list[Path | str] = [
        "-D",
        part,
        "-U",
        USER,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
    ]
    if not _call([programs / "initdb", *options], user, log):
        raise Refusal(f"initdb failed: {log} says why")
    part.rename(data)


def _call(command: Sequence[Path | str], user: dict[str, Any], log: Path) -> bool:
    """Run a program of PostgreSQL; whether it succeeded."""
    with log.open("ab") as output:
        return subprocess.run(command, stdout=output, stderr=output, check=False, **user).returncode == 0
