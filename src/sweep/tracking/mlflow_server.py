"""Starts MLflow's own server, and stops it again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from sweep.domain.errors import Refusal
from sweep.system.processes import born, place
from sweep.system.sealed import read_sealed, write_sealed

LOOPBACK = "127.0.0.1"
STARTING_S, STOPPING_S = 120.0, 30.0


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


@contextlib.contextmanager
def mlflow_server(
    database: str, artifacts: Path, address: Address, *, workers: int, log: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """`mlflow server` on that database, from when it answers until the block ends; Refusal if it can't start.

    `settings` are MLflow's variables for the server; one that the person has set already is left as it is. A server
    that was started with the same `log`, and whose starter was killed, is ended first.
    """
    host, port = address
    if not host.strip():
        raise Refusal("--host is empty: 127.0.0.1 is this machine alone, 0.0.0.0 the whole network")
    started = log.with_suffix(".process.json")
    end_orphan(started)
    try:
        socket.create_server(address).close()
    except OSError as error:
        raise Refusal(f"port {port} is taken, or can't be had at {host} ({error}): try {port + 1}") from error
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", str(workers)]
    command += ["--artifacts-destination", str(artifacts), "--uvicorn-opts", "--log-level warning"]
    environment = {**settings, **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_BACKEND_STORE_URI"] = database  # not an argument: everybody can read those, with its password
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # several processes that score traces of agents
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        write_sealed(started, {"place": place(), "pid": process.pid, "born": born(process.pid)})
        deadline = time.monotonic() + STARTING_S
        while not _is_healthy(f"http://{LOOPBACK if host == '0.0.0.0' else host}:{port}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Refusal(f"the MLflow server did not start, or did not answer in time: {log} says why")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        started.unlink(missing_ok=True)


def end_orphan(started: Path) -> None:
    """End the server that this file names, with its workers, if it is still running; the file is gone then."""
    fields = read_sealed(started, remedy="a server that it names is not looked for")
    if fields is None or fields["place"] != place():
        return
    group = int(fields["pid"])  # the server leads a process group of its own
    if born(group) in (None, fields["born"]):  # else its number belongs to another process by now
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOPPING_S
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
                while time.monotonic() < deadline:
                    os.killpg(group, 0)
                    time.sleep(0.1)
    started.unlink(missing_ok=True)


def _is_healthy(address: str) -> bool:
    """Whether a server answers there; the proxies of the environment are not asked."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
