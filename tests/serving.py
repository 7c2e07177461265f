"""A folder served over HTTP on loopback with range requests, and the faults that real servers have."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sweep.system import http


class Served:
    """The server's folder and its behaviour, changed by a test while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.ranges: list[tuple[str, int, int]] = []
        """Every range asked for: path, first byte, last byte."""
        self.faults: list[str] = []
        """Of the next replies, one each: cut, short, busy."""
        self.authorizations: set[str | None] = set()
        """What requests said of who they are."""
        self.ignores_ranges = False
        self.etag = '"1"'
        self.silent_after: int | None = None
        """After so many ranges it answers nothing until `go_on` is set."""
        self.go_on = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, served: Served, *arguments: object) -> None:
        self.served = served
        super().__init__(*arguments)

    def do_GET(self) -> None:
        served = self.served
        file = served.folder / self.path.lstrip("/")
        if not file.is_file():
            return self._reply(404, b"")
        content = file.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert asked
        if served.ignores_ranges:
            return self._reply(200, content)
        if not content:
            return self._reply(416, b"", "bytes */0")
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        served.ranges.append((self.path, first, last))
        served.authorizations.add(self.headers["Authorization"])
        if served.silent_after is not None and len(served.ranges) > served.silent_after:
            served.go_on.wait(20)
        said, body = f"bytes {first}-{last}/{len(content)}", content[first : last + 1]
        fault = served.faults.pop() if served.faults else None
        if fault == "busy":
            return self._reply(503, b"")
        if fault == "short":
            return self._reply(206, body[:-1], said)
        return self._reply(206, body, said, cut=fault == "cut")

    def do_HEAD(self) -> None:
        """What ai2-olmo asks for a file's size."""
        self.send_response(200)
        self.send_header("Content-Length", str((self.served.folder / self.path.lstrip("/")).stat().st_size))
        self.end_headers()

    def _reply(self, status: int, body: bytes, content_range: str | None = None, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", self.served.etag)
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    served = Served(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served)) as server:
        server.daemon_threads = True
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.go_on.set()
        server.shutdown()
        thread.join()
