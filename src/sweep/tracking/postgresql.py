"""A PostgreSQL for MLflow: Debian's programs, all data in one folder, reached through a Unix socket alone."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.domain.errors import Refusal

DEBIAN = Path("/usr/lib/postgresql")
SOCKETS = "sweep-postgres-"
"""How the names of the temporary folders for the socket begin."""
USER = "postgres"
"""The user of Debian's package. PostgreSQL refuses to run as root, so root runs it as this user."""


@contextlib.contextmanager
def postgresql(data: Path) -> Iterator[tuple[str, int]]:
    """PostgreSQL on the database cluster in `data`, made if it is absent: its address for MLflow, and its process id.

    Raises Refusal, which says what to do, if it is not installed or can't run.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise Refusal("psycopg is not installed: pip install 'sweep-anneal[postgres]', or give --backend sqlite")
    user, log, pg_ctl = _user(data.parent), data.parent / "postgres.log", _pg_ctl(data)

    def ctl(action: str, folder: Path, *options: str) -> bool:
        with log.open("ab") as output:
            command = [str(pg_ctl), action, "-D", str(folder), *options]
            return subprocess.run(command, stdout=output, stderr=output, check=False, **user).returncode == 0

    def stop() -> bool:
        return ctl("stop", data, "-m", "fast", "-t", "30") or ctl("stop", data, "-m", "immediate")

    with tempfile.TemporaryDirectory(prefix=SOCKETS) as sockets:  # a socket's path has at most 107 bytes
        if user:
            shutil.chown(sockets, USER, USER)  # and nobody else gets in: its mode is 0700
        if not data.exists():  # whole or not at all
            part = data.with_name("postgres.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(mode=0o700)
            if user:
                shutil.chown(part, USER, USER)
            if not ctl("initdb", part, "-o", f"-U {USER} --auth=trust --encoding=UTF8 --locale=C --data-checksums"):
                raise Refusal(f"PostgreSQL could not make its files: {log} says why")
            part.rename(data)
        elif (data / "postmaster.pid").exists():  # left by a server that was killed; one that is alive is stopped
            with _sockets_removed(data):
                stop()
        try:
            options = f"-k {sockets} -c listen_addresses= -c max_connections=300"
            if not ctl("start", data, "-w", "-t", "120", "-o", options):
                raise Refusal(f"PostgreSQL did not start: {log} says why")
            process_id = int((data / "postmaster.pid").read_text().partition("\n")[0])
            yield f"postgresql+psycopg://{USER}@/postgres?host={sockets}", process_id
        finally:  # "fast" ends all sessions and writes everything to the disk
            stop()


@contextlib.contextmanager
def _sockets_removed(data: Path) -> Iterator[None]:
    """Remove the temporary folder of a server whose starter was killed, which the block stops."""
    lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
    yield
    if len(lines) > 4 and Path(lines[4]).name.startswith(SOCKETS):
        shutil.rmtree(lines[4], ignore_errors=True)


def _pg_ctl(data: Path) -> Path:
    """PostgreSQL's program that starts and stops it: of the version that made `data`, or of the newest one."""
    made_by = data / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.is_file() else None
    programs = {path.parents[1].name: path for path in DEBIAN.glob("*/bin/pg_ctl")}
    chosen = version or max(programs, key=float, default="")
    if chosen in programs:
        return programs[chosen]
    if (initdb := shutil.which("initdb")) is not None:
        return Path(initdb).resolve().with_name("pg_ctl")
    wanted = "postgresql" if version is None else f"postgresql-{version}, which made {data},"
    raise Refusal(f"{wanted} is not installed: apt-get install postgresql, or give --backend sqlite")


def _user(folder: Path) -> dict[str, Any]:
    """subprocess' arguments for user postgres if this one is root; Refusal if that user can't enter `folder`."""
    if os.geteuid():
        return {}
    user: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []}
    try:
        enters = subprocess.run(["test", "-x", str(folder)], check=False, **user).returncode == 0
    except LookupError as error:
        raise Refusal(
            f"PostgreSQL refuses to run as root, and there is no user {USER}: apt-get install postgresql"
        ) from error
    if not enters:
        raise Refusal(
            f"--folder={folder}: PostgreSQL refuses to run as root and is run as {USER}, who may not enter there: "
            "choose a folder that everybody may enter, be a plain user, or give --backend sqlite"
        )
    return user
