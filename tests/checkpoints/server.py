"""A loopback server of files that can cut connections, send wrong bytes, hold an answer back and count what it sent."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """What the server does and did."""

    root: Path
    cut_after: dict[str, int] = field(default_factory=dict)
    """File -> close the connection once, after so many bytes."""
    wrong: set[str] = field(default_factory=set)
    """Files whose last byte is another one."""
    refused: set[str] = field(default_factory=set)
    """Files that it answers 403 for."""
    digests: bool = True
    ranges: bool = True
    failures: list[int] = field(default_factory=list)
    """Statuses to answer GET with first."""
    hold: threading.Event | None = None
    """GET stops in the middle of a file until this is set."""
    sent: dict[str, int] = field(default_factory=dict)
    gets: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(root: Path) -> Iterator[Served]:
    served = Served(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            served.gets.append((self.path, self.headers.get("Range")))
            if served.failures:
                self.send_response(served.failures.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = served.root / self.path.lstrip("/")
            if not path.is_file() or path.name in served.refused:
                self.send_response(403 if path.name in served.refused else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            etag = f'"{hashlib.md5(data).hexdigest()}"' if served.digests else None
            asked = self.headers.get("Range") if served.ranges else None
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if etag:
                self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            if path.name in served.wrong:
                data = data[:-1] + bytes([data[-1] ^ 1])
            stop = served.cut_after.pop(path.name, len(data))
            if served.hold is not None and path.stem == "model":
                self._send(path.name, data[start : len(data) // 2])
                served.hold.wait(60)
                start = len(data) // 2
            self._send(path.name, data[start:stop])
            if stop < len(data):
                self.close_connection = True

        def _send(self, name: str, data: bytes) -> None:
            served.sent[name] = served.sent.get(name, 0) + len(data)
            try:
                self.wfile.write(data)
                self.wfile.flush()
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
