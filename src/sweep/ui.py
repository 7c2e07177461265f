"""`python -m sweep.ui [PORT]`: the MLflow UI on the outcomes here, on loopback, and the link that opens it ready."""

from __future__ import annotations

import argparse
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from sweep.tracking.view import link

HOST = "127.0.0.1"
STARTING_S = 60.0


def main() -> None:
    """Serve until interrupted; exits with the server's own code where it ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m sweep.ui", description=__doc__)
    parser.add_argument("port", nargs="?", type=_port, default=5000, help="on loopback; 5000 where none is given")
    port = parser.parse_args().port
    multirun = Path("multirun").absolute()
    database = multirun / "mlflow.db"
    if os.environ.get("MLFLOW_TRACKING_URI"):
        sys.exit("MLFLOW_TRACKING_URI is set: the outcomes are on that server, open it in a browser")
    if not database.is_file():
        sys.exit(f"there are no outcomes yet: {database} is made by the first run, e.g. `make sweep`")
    if _answers(port):
        sys.exit(f"port {port} is taken by another program: try `python -m sweep.ui {port + 1}`")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    where = ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(multirun / "mlartifacts")]
    server = subprocess.Popen(
        [*command, *where], env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}, stderr=subprocess.DEVNULL
    )
    try:
        _wait(server, port)
        for experiment, name in experiments(database):
            sys.stdout.write(f"{name}: {link(f'http://{HOST}:{port}', experiment)}\n")
        sys.stdout.write("stop with Ctrl-C\n")
        sys.stdout.flush()
        if server.wait():
            sys.exit(f"the MLflow server ended with code {server.returncode}")
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait()


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{port} is not a port: 1 to 65535")
    return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def experiments(database: Path) -> list[tuple[str, str]]:
    """(id, name) of the experiments that have runs."""
    query = "select distinct e.experiment_id, e.name from experiments e join runs r using (experiment_id) order by 1"
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return [(str(number), name) for number, name in connection.execute(query)]
    finally:
        connection.close()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + STARTING_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the MLflow server did not start; is port {port} taken? try `python -m sweep.ui {port + 1}`")
        if _answers(port):
            return
        time.sleep(0.3)
    sys.exit(f"the MLflow server did not answer on port {port} within {STARTING_S:.0f} s")


if __name__ == "__main__":
    main()
