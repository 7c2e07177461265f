"""`sweep ui [PORT]`: serve the MLflow UI on the results in this folder, and print the link to the last sweep.

It listens on loopback. If MLFLOW_TRACKING_URI is a server's address, nothing is started and the link to that server is
printed; if it is a database's address, that database is served.
"""

from __future__ import annotations

import signal
import sys
from urllib.parse import urlsplit, urlunsplit

from sweep.commands.command_line import command_parser, port, refusals
from sweep.domain.errors import Refusal
from sweep.sweeps.run_folders import MULTIRUN
from sweep.tracking.mlflow_server import LOOPBACK, Address, mlflow_server
from sweep.tracking.place import mlflow_place, sqlite_file

NAME = "sweep.localhost"
"""Browsers take every name in .localhost for this machine. At 127.0.0.1 and localhost MLflow 3.17 opens its Assistant
over a quarter of the page, the first time."""
EXAMPLES = """\
sweep ui                                                on port 5000
sweep ui 5001                                           on another port
MLFLOW_TRACKING_URI=https://lab.example.org sweep ui    the link to the last sweep on that server
"""


@refusals()
def main() -> None:
    """Serve until Ctrl-C or SIGTERM; exit with 1 if the server ends by itself."""
    parser = command_parser("ui", __doc__, EXAMPLES)
    parser.add_argument("port", nargs="?", type=port, default=5000, help="on loopback; default: 5000")
    address = Address(LOOPBACK, parser.parse_args().port)
    multirun = MULTIRUN.absolute()
    place = mlflow_place(multirun)
    uri = place.tracking_uri
    if uri.startswith(("http://", "https://")):
        sys.stdout.write(f"{_link(uri, _without_password(uri))}\n")
        return
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise Refusal(f"there are no results yet: the first run makes {file}; `make sweep` starts some")
    multirun.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hosts = ",".join(f"{name}:*" for name in (NAME, LOOPBACK, "localhost"))  # any port: of a tunnel too
    settings = {
        "MLFLOW_SERVER_ALLOWED_HOSTS": hosts,
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{NAME}:{address.port}",
    }
    log = multirun / "mlflow-ui.log"
    try:
        with mlflow_server(uri, place.artifact_root, address, workers=1, log=log, settings=settings) as server:
            sys.stdout.write(f"{_link(uri, f'http://{NAME}:{address.port}')}\n")
            sys.stdout.write(f"stop with Ctrl-C; if the browser can't find {NAME}, give it {LOOPBACK}\n")
            sys.stdout.flush()
            if server.wait():
                sys.exit(f"the MLflow server ended with code {server.returncode}: {log} says why")
    except KeyboardInterrupt:
        pass


def _link(uri: str, address: str) -> str:
    """The link, under `address`, to the view of the last sweep in the MLflow at `uri`; Refusal if it has none."""
    from sweep.tracking.view import link, newest_view

    view = newest_view(uri)
    if view is None:
        raise Refusal(f"there are no results yet at {address}: `make sweep` makes some")
    return link(address, *view)


def _without_password(uri: str) -> str:
    """The address without user and password; a browser asks for them."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
