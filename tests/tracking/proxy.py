"""A proxy on loopback with the faults of networks, and a server's end as in a power cut."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest

from .servers import Lab


def kill(lab: Lab) -> None:
    """As a power cut does: door, MLflow and PostgreSQL at once."""
    door = psutil.Process(lab.process.pid)
    for process in (door, *door.children(recursive=True)):
        process.kill()
    lab.process.communicate()


class Proxy:
    """In front of a server on loopback; `fault(method, path)` says what befalls a request, None is nothing.

    "refuse": it is answered by nothing at all; "hang": it is taken and never answered; "lose": the server does it, and
    the answer is lost.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream, self.uri = upstream, ""
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.seen: list[str] = []
        """Method and path of every request."""
        self.authorizations: set[str | None] = set()
        self.done = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, proxy: Proxy, *arguments: Any) -> None:
        self.proxy = proxy
        super().__init__(*arguments)

    def _pass(self) -> None:
        proxy, self.close_connection = self.proxy, True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault(self.command, self.path)
        proxy.seen.append(f"{self.command} {self.path}")
        proxy.authorizations.add(self.headers.get("Authorization"))
        if fault == "hang":
            proxy.done.wait(60)
        if fault in ("hang", "refuse"):
            return
        with closing(http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)) as server:
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            content = answer.read()
        if fault == "lose":
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("content-type", "content-disposition"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def proxy(lab: Callable[[str], Lab], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the server on SQLite; its address is in `uri`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Proxy(lab("sqlite").port)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, made)) as server:
        server.daemon_threads = True
        made.uri = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.done.set()
        server.shutdown()
        thread.join()
