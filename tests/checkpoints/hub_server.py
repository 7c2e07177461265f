"""A loopback Hugging Face Hub: the four questions that huggingface_hub asks of it, and a connection to cut once."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """One repository: what it has and what it was asked."""

    repo: str
    revisions: dict[str, dict[str, bytes]]
    """Revision -> file -> content."""
    asked: list[str] = field(default_factory=list)
    cut_after: int | None = None
    """Close the connection once, after so many bytes of a longer file."""
    wrong: int = 0
    """Answer so many times with other bytes of the same size, of weights."""
    url: str = ""

    def commit(self, revision: str) -> str:
        """The commit a revision names, by which its files are asked for."""
        return hashlib.sha1(revision.encode()).hexdigest()

    def files(self, name: str) -> dict[str, bytes] | None:
        """Of a revision or a commit."""
        return next((found for r, found in self.revisions.items() if name in (r, self.commit(r))), None)


def digest(name: str, data: bytes) -> str:
    """As the Hub's ETag: SHA-256 of what is in Git LFS, git's SHA-1 of the rest."""
    if name.endswith((".safetensors", ".bin", ".pt")):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, *, body: bool = True) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            words = path.removeprefix("/api/models").removeprefix(f"/{hub.repo}/").split("/")
            files = hub.files(words[1]) if len(words) > 1 else None
            if words == ["refs"]:
                branches = [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": hub.commit(name)}
                    for name in ("main", *hub.revisions)
                ]
                self._json({"branches": branches, "tags": [], "converts": [], "pullRequests": []})
            elif words[0] == "revision" and files is not None:
                siblings = [{"rfilename": name} for name in files]
                self._json({"id": hub.repo, "sha": hub.commit(words[1]), "siblings": siblings})
            elif words[0] == "tree" and files is not None:
                self._json(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": digest(name, data)}
                        for name, data in files.items()
                    ]
                )
            elif words[0] == "resolve" and files is not None and (name := "/".join(words[2:])) in files:
                self._file(name, files[name], words[1], body)
            else:
                self._json({"error": "no"}, status=404, code="RevisionNotFound")

        def _json(self, answer: object, *, status: int = 200, code: str | None = None) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _file(self, name: str, data: bytes, commit: str, body: bool) -> None:
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{digest(name, data)}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            stop = len(data)
            if hub.cut_after is not None and len(data) > hub.cut_after:
                stop, hub.cut_after, self.close_connection = hub.cut_after, None, True
            if hub.wrong and name.endswith((".safetensors", ".bin")):
                data, hub.wrong = bytes(len(data)), hub.wrong - 1
            self.wfile.write(data[start:stop])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()
