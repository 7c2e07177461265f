"""`sweep server [PORT]`: an MLflow server on PostgreSQL, which keeps everything in one folder.

PostgreSQL is Debian's and listens on a Unix socket alone. Where you are root, it runs as user postgres.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from sweep.commands.command_line import command_parser, port, refusals, workers
from sweep.domain.errors import Refusal
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system.processes import born
from sweep.tracking.mlflow_server import LOOPBACK, Address, mlflow_server
from sweep.tracking.postgresql import postgresql

LOCK = ".server.lock"
PRIVATE = ("10.*", "192.168.*", *(f"172.{number}.*" for number in range(16, 32)))
"""Private networks: MLflow allows them by default, but not if any host is named."""
EXAMPLES = """\
sweep server                             on loopback, port 5000, in multirun/mlflow-server
sweep server 5001 --folder /data/mlflow  another port and another folder
sweep server --host 0.0.0.0              the whole network may use it, without a password
sweep server --backend sqlite            without PostgreSQL
"""


@refusals()
def main() -> None:
    """Serve until Ctrl-C or SIGTERM, then stop MLflow and PostgreSQL in this order."""
    parser = command_parser("server", __doc__, EXAMPLES)
    parser.add_argument("port", nargs="?", type=port, default=5000, help="default: 5000")
    parser.add_argument("--folder", type=Path, default=MULTIRUN / "mlflow-server", help="where everything is kept")
    parser.add_argument("--backend", choices=("postgres", "sqlite"), default="postgres", help="the database")
    parser.add_argument("--host", default=LOOPBACK, help="0.0.0.0 lets the network in; MLflow asks for no password")
    parser.add_argument("--workers", type=workers, default=2, help="processes of MLflow, about 300 MB each; default: 2")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder, address = chosen.folder.absolute(), Address(chosen.host, chosen.port)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refusal(f"--folder={folder} can't be made: {error.strerror}") from error
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as running:
        try:
            running.enter_context(FileLock(folder / LOCK, timeout=0))
        except Timeout:
            sys.exit(f"--folder={folder} is served by another process already: stop that one, or choose another folder")
        database, process_id = f"sqlite:///{folder / 'mlflow.db'}", os.getpid()
        if chosen.backend == "postgres":
            database, process_id = running.enter_context(postgresql(folder / "postgres"))
        files = {"artifacts": folder / "artifacts", "log": folder / "mlflow.log"}
        more = {"workers": chosen.workers, "settings": _allowed_hosts(address)}
        mlflow = running.enter_context(mlflow_server(database, address=address, **files, **more))
        name = LOOPBACK if address.host == LOOPBACK else socket.gethostname()
        sys.stdout.write(f"export MLFLOW_TRACKING_URI=http://{name}:{address.port}\n")
        sys.stdout.write(f"kept in {folder}; stop with Ctrl-C\n{exposure(address)}")
        sys.stdout.flush()
        while mlflow.poll() is None and born(process_id) is not None:
            time.sleep(0.2)
        ended = "PostgreSQL" if mlflow.poll() is None else "MLflow"
        sys.exit(f"{ended} ended by itself: the logs in {folder} say why")


def exposure(address: Address) -> str:
    """A line that says who can do what with a server that listens beyond this machine; empty for loopback."""
    if address.host in (LOOPBACK, "localhost", "::1"):
        return ""
    return (
        f"listening on {address.host}: whoever reaches port {address.port} may read, change and delete every run; "
        "MLflow asks nobody who they are\n"
    )


def _allowed_hosts(address: Address) -> dict[str, str]:
    """MLflow's variable with the names that browsers may use for this server; on loopback its default is right."""
    if address.host == LOOPBACK:
        return {}
    names = dict.fromkeys((LOOPBACK, "localhost", socket.gethostname(), socket.getfqdn(), address.host))
    return {"MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*(f"{name}:{address.port}" for name in names), *PRIVATE])}
