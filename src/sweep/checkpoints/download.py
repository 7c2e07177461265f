"""Files over HTTP, large ones: resumed where they were cut, checked, and whole before anybody sees them.

The official OLMo folders can't be listed; the four files of a checkpoint are asked for by name.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import safetensors
import yaml

from sweep.checkpoints.tensors import FILES
from sweep.domain.errors import Refusal
from sweep.system.progress import Progress

MIRROR = "SWEEP_CHECKPOINTS_URL"
"""Environment variable: scheme, host and path put in front of a published URL's path instead of its own host."""
STEMS = ("config", "train", "model", "optim")  # the small ones first
TRIES = 5
"""In a row, without a byte gained."""
BACKOFF_S = 1.0
"""Before the second try; doubled after each."""
TIMEOUT_S = (10.0, 60.0)
CHUNK = 1 << 16
ABSENT = (403, 404, 410)
"""Object stores that may not be listed answer 403 for what isn't there."""


class Broken(Exception):
    """What came is not what was promised, or didn't come; worth another try."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file that a server has."""

    name: str
    url: str
    size: int
    etag: str | None
    md5: str | None
    """Hexadecimal; None where the server promises none."""


def fetch_folder(
    url: str, into: Path, parts: Path, *, title: str, stems: Sequence[str] = STEMS, optimizer: bool = True
) -> None:
    """Fill `into` with the `stems` of the OLMo unsharded checkpoint at `url`, and `download.json`: what was verified.

    `parts`, on the file system of `into`, keeps what has come when this is cut short, for the next call.
    Refusal where the server can't be reached, has no such checkpoint (nor, if `optimizer`, its state) or sends another.
    """
    parts.mkdir(parents=True, exist_ok=True)
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        remotes = [r for s in stems if (r := _locate(session, mirrored(url).rstrip("/"), s, title, needed=optimizer))]
        have = sum(min(_size(parts / r.name), r.size) for r in remotes)
        with Progress(f"downloading {title}", total=sum(r.size for r in remotes), done=have) as bar:
            for remote in remotes:
                _fetch(session, remote, parts, bar)
    for remote in remotes:
        _link(parts / remote.name, into / remote.name)
    verified = {r.name: {"bytes": r.size, "verified": "size and md5" if r.md5 else "size"} for r in remotes}
    (into / "download.json").write_text(json.dumps({"url": url, "files": verified}, indent=1))


def mirrored(url: str) -> str:
    """The URL to ask: the published one, or its like below SWEEP_CHECKPOINTS_URL."""
    mirror = os.environ.get(MIRROR)
    return url if not mirror else mirror.rstrip("/") + urlsplit(url).path


def _locate(session: requests.Session, folder: str, stem: str, title: str, *, needed: bool) -> Remote | None:
    """The first of a file's spellings that the server has; None for an optimizer that isn't there nor `needed`."""
    for ending in FILES[stem]:
        url = f"{folder}/{stem}.{ending}"
        for attempt in _attempts(url):
            with attempt:
                answer = session.head(url, timeout=TIMEOUT_S, allow_redirects=True)
                if answer.status_code in ABSENT:
                    break
                _raise_for(answer, url)
                return _remote(url, answer.headers)
    if stem == "optim":
        if not needed:
            return None
        gone = f"{title}: {folder} has no optimizer state (allenai/OLMo#796, #834)"
        raise Refusal(f"{gone}; anneal.optimizer=fresh, with warmup_steps and peak_lr, takes the weights alone")
    gone = f"{title}: {folder}/{stem}.{' or .'.join(FILES[stem])} is not there (HTTP {answer.status_code})"
    raise Refusal(f"{gone}; take another checkpoint.step, or checkpoint.source=hub where the model is on the Hub")


def _remote(url: str, headers: Any) -> Remote:
    if not headers.get("Content-Length", "").isdigit():
        raise Refusal(f"{url}: the server doesn't say how long the file is, so that it can't be checked")
    etag = headers.get("ETag")
    return Remote(
        name=url.rsplit("/", 1)[1],
        url=url,
        size=int(headers["Content-Length"]),
        etag=etag,
        md5=_promised_md5(etag or "", headers.get("x-goog-hash", ""), headers.get("Content-MD5", "")),
    )


def _promised_md5(etag: str, goog: str, content_md5: str) -> str | None:
    """An MD5 among the headers: an ETag of 32 digits (not of a multipart upload), x-goog-hash, Content-MD5."""
    if found := re.search(r"md5=([A-Za-z0-9+/]{22}==)", goog) or re.fullmatch(r"([A-Za-z0-9+/]{22}==)", content_md5):
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(found[1]).hex()
    plain = etag.strip().strip('"').lower()
    return plain if not etag.startswith("W/") and re.fullmatch(r"[0-9a-f]{32}", plain) else None


def _fetch(session: requests.Session, remote: Remote, parts: Path, bar: Progress) -> None:
    """The whole, checked file in `parts`; what an earlier call left there is taken where it is of the same version."""
    part, stamp = parts / remote.name, parts / f"{remote.name}.json"
    version = json.dumps([remote.size, remote.etag])
    if _text(stamp) != version or _size(part) > remote.size:
        bar.advance(-min(_size(part), remote.size))
        part.unlink(missing_ok=True)
        stamp.write_text(version)
    wrong: str | None = None
    for attempt in _attempts(remote.url, progress=lambda: _size(part)):
        with attempt:
            _receive(session, remote, part, bar)
            if (fault := _fault(part, remote)) is None:
                return
            bar.advance(-_size(part))
            part.unlink()
            if wrong is not None:
                raise Refusal(f"{remote.url}: {fault}, twice; nothing was kept. Another mirror: {MIRROR}")
            wrong = fault
            raise Broken(fault)


def _receive(session: requests.Session, remote: Remote, part: Path, bar: Progress) -> None:
    """Append to `part` what is missing of it."""
    have = _size(part)
    if have == remote.size:
        return
    headers = {"Range": f"bytes={have}-", **({"If-Range": remote.etag} if remote.etag else {})} if have else {}
    with session.get(remote.url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        _raise_for(answer, remote.url)
        resumed = answer.status_code == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise Broken(f"asked for bytes from {have} on, got {answer.headers.get('Content-Range')}")
        if have and not resumed:
            bar.advance(-have)
        with part.open("ab" if resumed else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                bar.advance(len(chunk))
    if _size(part) < remote.size:
        raise Broken(f"cut after {_size(part)} of {remote.size} bytes")


def _fault(path: Path, remote: Remote) -> str | None:
    """What is wrong with a file that has come; None: nothing that can be told."""
    if _size(path) != remote.size:
        return f"{_size(path)} bytes came, {remote.size} were announced"
    if remote.md5 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != remote.md5:
            return f"the MD5 of what came is {found}, the server's is {remote.md5}"
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="numpy"):
                pass
        elif path.suffix == ".pt":
            if not zipfile.is_zipfile(path) and path.open("rb").read(1) != b"\x80":
                return "it is no PyTorch file"
        elif not isinstance(yaml.safe_load(path.read_text()), dict):
            return "it is no YAML mapping"
    except (safetensors.SafetensorError, yaml.YAMLError, UnicodeDecodeError) as error:
        return f"it is no {path.suffix} file ({error})"
    return None


def _attempts(url: str, progress: Any = lambda: 0) -> Iterator[contextlib.AbstractContextManager[None]]:
    """Contexts to try in, one after another; a passing fault is quiet, TRIES without progress are a Refusal."""
    failed, best = 0, progress()
    while True:
        fault: list[Exception] = []
        yield _quiet(fault)
        if not fault:
            return
        failed = 1 if progress() > best else failed + 1
        best = max(best, progress())
        if failed >= TRIES:
            raise Refusal(_hopeless(url, fault[0])) from fault[0]
        time.sleep(BACKOFF_S * 2 ** (failed - 1))


@contextlib.contextmanager
def _quiet(fault: list[Exception]) -> Iterator[None]:
    try:
        yield
    except (requests.RequestException, Broken) as error:
        fault.append(error)


def _hopeless(url: str, error: Exception) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return (
            f"{url}: {host} could not be reached in {TRIES} tries ({type(error).__name__}). Without a network: "
            f"model=local checkpoint.path=FOLDER for a copy on disk, {MIRROR}=URL for a mirror, or "
            "checkpoint.source=hub with HF_HUB_OFFLINE=1 and what is in HF_HOME. What has come is kept"
        )
    return f"{url}: {error}, {TRIES} times in a row; what has come is kept, the same command goes on from there"


def _raise_for(answer: requests.Response, url: str) -> None:
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise Broken(f"HTTP {answer.status_code}")
    if answer.status_code >= 400:
        raise Refusal(f"{url}: HTTP {answer.status_code} {answer.reason}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, so that a kill before it is published loses nothing."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        os.rename(source, target)
