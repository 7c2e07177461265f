"""Revisions come through huggingface_hub itself from a loopback Hub, and offline from its cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

REPO, REVISION, COMMIT = "allenai/OLMo-2-0425-1B", "stage1-step300-tokens1B", "c" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(200_000),
    "pytorch_model.bin": b"the same again",
    "tokenizer.json": b"{}",
    "README.md": b"about",
}


class Hub:
    """What the Hub has, what it was asked, and a connection to cut once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cut_after: int | None = None
        self.url = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, *, body: bool = True) -> None:
            path = unquote(urlsplit(self.path).path)
            state.asked.append(f"{self.command} {path}")
            if path == f"/api/models/{REPO}/refs":
                branches = [
                    {"name": name, "ref": f"refs/heads/{name}", "targetCommit": COMMIT}
                    for name in ("main", REVISION, "stage1-step10000-tokens21B")
                ]
                self._json({"branches": branches, "tags": [], "converts": [], "pullRequests": []})
            elif path == f"/api/models/{REPO}/revision/{REVISION}":
                self._json({"id": REPO, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]})
            elif path in (f"/api/models/{REPO}/tree/{REVISION}", f"/api/models/{REPO}/tree/{COMMIT}"):
                self._json(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                        for name, data in FILES.items()
                    ]
                )
            elif path.startswith(f"/{REPO}/resolve/") and path.rsplit("/", 1)[1] in FILES:
                self._file(FILES[path.rsplit("/", 1)[1]], body)
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

        def _file(self, data: bytes, body: bool) -> None:
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            stop = len(data)
            if state.cut_after is not None and len(data) > state.cut_after:
                stop, state.cut_after, self.close_connection = state.cut_after, None, True
            self.wfile.write(data[start:stop])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def ask(home: Path, endpoint: str, revision: str = "stage1-step300-tokens*B", **more: str) -> tuple[str, str]:
    """(folder, refusal) of a snapshot taken in a process of its own, as the client reads its environment once."""
    code = (
        "import sys\nfrom sweep.checkpoints.hub import snapshot\nfrom sweep.refusal import Refusal\n"
        "try:\n    print(snapshot(sys.argv[1], sys.argv[2]))\nexcept Refusal as e:\n    print(e, file=sys.stderr)\n"
    )
    variables = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}
    done = subprocess.run(
        [sys.executable, "-c", code, REPO, revision],
        capture_output=True, text=True, timeout=120, check=True, env={**os.environ, **variables},
    )  # fmt: skip
    return done.stdout.strip(), done.stderr.strip()


def test_a_step_resolves_to_its_revision_and_one_format_comes(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert refusal == ""
    assert Path(folder).is_relative_to(tmp_path / "home")
    assert {f.name for f in Path(folder).iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_cut_connection_is_tried_again(tmp_path: Path, hub: Hub) -> None:
    hub.cut_after = 100_000
    folder, refusal = ask(tmp_path / "home", hub.url)
    assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"], refusal
    assert hub.asked.count(f"GET /{REPO}/resolve/{COMMIT}/model.safetensors") == 2


def test_offline_a_warm_cache_serves(tmp_path: Path, hub: Hub) -> None:
    folder, _ = ask(tmp_path / "home", hub.url)
    asked = len(hub.asked)
    assert ask(tmp_path / "home", hub.url, HF_HUB_OFFLINE="1") == (folder, "")
    assert len(hub.asked) == asked


def test_offline_a_cold_cache_says_why_not(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url, HF_HUB_OFFLINE="1")
    assert folder == "" and "is not in the cache" in refusal and "HF_HUB_OFFLINE is set" in refusal
    folder, refusal = ask(tmp_path / "home", hub.url, revision=REVISION, HF_HUB_OFFLINE="1")
    assert folder == "" and "model=local checkpoint.path=FOLDER" in refusal
    assert not hub.asked


def test_without_a_network_it_says_what_to_do(tmp_path: Path) -> None:
    folder, refusal = ask(tmp_path / "home", "http://127.0.0.1:9")
    assert folder == "" and refusal.splitlines()[-1].startswith(f"{REPO}@stage1-step300-tokens*B: no Hub could be")


def test_a_step_that_isnt_there_names_its_neighbours(tmp_path: Path, hub: Hub) -> None:
    folder, refusal = ask(tmp_path / "home", hub.url, revision="stage1-step400-tokens*B")
    assert folder == ""
    assert f"is not on the Hub; nearest: {REVISION}, stage1-step10000-tokens21B" in refusal
    folder, refusal = ask(tmp_path / "home", hub.url, revision="nowhere")
    assert "there is no such revision" in refusal
