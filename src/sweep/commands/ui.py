"""`sweep ui [PORT]`: the MLflow UI on the outcomes here, on loopback, and the one link that opens it ready.

With MLFLOW_TRACKING_URI at a server it prints the link to that server; with a database, that is served.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sweep.tracking.place import database, sqlite_file

HOST = "127.0.0.1"
NAME = "sweep.localhost"
"""Browsers take every name in .localhost for this machine. At 127.0.0.1 and localhost MLflow 3.17 opens its Assistant
over a quarter of the page, the first time."""
STARTING_S = 120.0


def main() -> None:
    """Serve until interrupted, by Ctrl-C or SIGTERM; exits with the server's own code where it ends by itself."""
    parser = argparse.ArgumentParser(prog="sweep ui", description=__doc__)
    parser.add_argument("port", nargs="?", type=_port, default=5000, help="on loopback; 5000 where none is given")
    port = parser.parse_args().port
    multirun = Path("multirun").absolute()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or database(multirun)
    if uri.startswith(("http://", "https://")):
        sys.stdout.write(f"{_opening(uri, _without_secrets(uri))}\n")
        return
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        sys.exit(f"there are no outcomes yet: {file} is made by the first run, e.g. `make sweep`")
    if _answers(port):
        sys.exit(f"port {port} is taken by another program: try `sweep ui {port + 1}`")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(multirun / "mlartifacts")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": uri}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # several processes for scorers of agents' traces
    names = (NAME, HOST, "localhost")
    environment.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join(f"{name}:*" for name in names))  # tunnels too
    environment.setdefault("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", f"http://{NAME}:{port}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(server, port)
        sys.stdout.write(f"{_opening(uri, f'http://{NAME}:{port}')}\n")
        sys.stdout.write(f"stop with Ctrl-C; a browser that doesn't find {NAME} finds {HOST}\n")
        sys.stdout.flush()
        if server.wait():
            sys.exit(f"the MLflow server ended with code {server.returncode}")
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _opening(uri: str, address: str) -> str:
    """The link, under `address`, to the view of the last sweep that the MLflow at `uri` has."""
    from sweep.tracking.newest import newest_view
    from sweep.tracking.view import link

    found = newest_view(uri)
    if found is None:
        sys.exit(f"there are no outcomes yet at {address}: a sweep makes some, e.g. `make sweep`")
    return link(address, *found)


def _without_secrets(uri: str) -> str:
    """The address without user and password, which a browser asks for."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is not a port: 1 to 65535")
    return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + STARTING_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the MLflow server did not start; is port {port} taken? try `sweep ui {port + 1}`")
        if _answers(port):
            return
        time.sleep(0.3)
    sys.exit(f"the MLflow server did not answer on port {port} within {STARTING_S:.0f} s")
