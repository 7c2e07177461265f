"""Starts MLflow's own server, and stops it (and any other server process) again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sweep.domain.errors import Refusal

LOOPBACK = "127.0.0.1"
STARTING_S, STOPPING_S = 120.0, 30.0


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


def check_free(address: Address) -> None:
    """Raise Refusal if no server can listen there."""
    try:
        socket.create_server(address).close()
    except OSError as error:
        raise Refusal(
            f"port {address.port} is taken by another program, or can't be had at {address.host} ({error}): "
            f"try another one, such as {address.port + 1}"
        ) from error


@contextlib.contextmanager
def mlflow_server(
    database: str, artifacts: Path, address: Address, *, workers: int, log: Path, settings: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """`mlflow server` on that database, once it answers; it ends with the block.

    `settings` are MLflow's variables for the server; one that the person has set already is left as it is.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", address.host, "--port", str(address.port)]
    command += ["--workers", str(workers), "--artifacts-destination", str(artifacts)]
    command += ["--uvicorn-opts", "--log-level warning"]
    environment = {**settings, **os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_BACKEND_STORE_URI"] = database  # not an argument: everybody can read those, with its password
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # several processes that score traces of agents
    health = f"http://{LOOPBACK if address.host == '0.0.0.0' else address.host}:{address.port}/health"
    with serving(command, lambda: _healthy(health), "MLflow", log, env=environment) as process:
        yield process


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    is_ready: Callable[[], bool],
    name: str,
    log: Path,
    *,
    stop: signal.Signals = signal.SIGTERM,
    **popen: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, from when it is ready; Refusal if it never is.

    It gets the signal `stop` when the block ends, and SIGKILL if it is still there 30 s later.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, **popen)
    try:
        deadline = time.monotonic() + STARTING_S
        while not is_ready():
            if process.poll() is not None:
                raise Refusal(f"{name} did not start: {log} says why")
            if time.monotonic() > deadline:
                raise Refusal(f"{name} did not answer within {STARTING_S:.0f} s: {log} says why")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _healthy(address: str) -> bool:
    """Whether a server answers there; the proxies of the environment are not asked."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
