"""A published checkpoint over HTTP: each file is resumed where it was cut, checked, and whole before it is used.

The official OLMo folders cannot be listed, so the four files of a checkpoint are asked for by name.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import safetensors
import yaml

from sweep.checkpoints.tensors import FILES
from sweep.domain.errors import Refusal
from sweep.system import http
from sweep.system.disk import check_room
from sweep.system.progress import Progress

MIRROR = "SWEEP_CHECKPOINTS_URL"
"""Environment variable: scheme, host and path that replace the scheme and host of a published URL."""
STEMS = ("config", "train", "model", "optim")  # the small ones first
ABSENT, REFUSED = (404, 410), 403
"""Statuses of a file that is not there. Object stores that may not be listed answer REFUSED for such a file, and other
servers for one that this person may not have, so that it says neither."""


class OptimizerRefused(Exception):
    """The server doesn't give the optimizer state, which is not needed, and doesn't say that there is none."""


@dataclass(frozen=True, kw_only=True)
class ServedFile:
    """A file as its server describes it."""

    name: str
    url: str
    size: int
    """Bytes."""
    etag: str | None
    md5: str | None
    """Hexadecimal; None if the server promises none."""


def fetch_folder(
    url: str, into: Path, parts: Path, *, title: str, stems: Sequence[str] = STEMS, optimizer: bool = True
) -> None:
    """Fill `into` with the `stems` of the OLMo unsharded checkpoint at `url`, and write what was verified.

    `parts`, on the file system of `into`, keeps what has come if this is interrupted, and the next call goes on from
    there. Raises Refusal if the server cannot be reached, has no such checkpoint (or, with `optimizer`, no optimizer
    state), or sends other bytes than it announced; OptimizerRefused, before the first byte, as that says.
    """
    parts.mkdir(parents=True, exist_ok=True)
    with http.session() as session:
        served = [f for stem in stems if (f := _located(session, mirrored(url), stem, title, needed=optimizer))]
        have = sum(min(_size(parts / file.name), file.size) for file in served)
        total = sum(file.size for file in served)
        check_room(parts, total - have, f"downloading {title}")
        with Progress(f"downloading {title}", total=total, done=have) as bar:
            for file in served:
                _fetch(session, file, parts, bar)
    for file in served:
        _link(parts / file.name, into / file.name)
    verified = {f.name: {"bytes": f.size, "verified": "size and md5" if f.md5 else "size"} for f in served}
    (into / "download.json").write_text(json.dumps({"url": url, "files": verified}, indent=1))


def mirrored(url: str) -> str:
    """The published URL, or the URL of the same path on the mirror that SWEEP_CHECKPOINTS_URL names."""
    mirror = os.environ.get(MIRROR)
    return (url if not mirror else mirror.rstrip("/") + urlsplit(url).path).rstrip("/")


def _located(session: http.Session, folder: str, stem: str, title: str, *, needed: bool) -> ServedFile | None:
    """The first spelling of a file that the server has; None for an optimizer that is absent and not `needed`."""
    statuses = []
    for ending in FILES[stem]:
        url = f"{folder}/{stem}.{ending}"
        with _ask(session, url, method="HEAD") as reply:
            statuses.append(reply.status_code)
            if reply.status_code not in (*ABSENT, REFUSED):
                _check_status(reply, url)
                return _served(url, reply.headers)
    if stem == "optim":
        if not needed and REFUSED in statuses:
            raise OptimizerRefused(folder)
        if not needed:
            return None
        why = ", or doesn't give it: HTTP 403" if REFUSED in statuses else ""
        gone = f"{title}: {folder} has no optimizer state (allenai/OLMo#796, #834){why}"
        raise Refusal(f"{gone}; anneal.optimizer=fresh, with warmup_steps and peak_lr, takes the weights alone")
    gone = f"{title}: {folder}/{stem}.{' or .'.join(FILES[stem])} is not there (HTTP {reply.status_code})"
    raise Refusal(f"{gone}; take another checkpoint.step, or checkpoint.source=hub where the model is on the Hub")


def _served(url: str, headers: Mapping[str, str]) -> ServedFile:
    if not headers.get("Content-Length", "").isdigit():
        raise Refusal(f"{url}: the server does not say how long the file is, so that it can't be checked")
    etag = headers.get("ETag")
    md5 = _promised_md5(etag or "", headers.get("x-goog-hash", ""), headers.get("Content-MD5", ""))
    return ServedFile(name=url.rsplit("/", 1)[1], url=url, size=int(headers["Content-Length"]), etag=etag, md5=md5)


def _promised_md5(etag: str, goog: str, content_md5: str) -> str | None:
    """An MD5 from the headers: x-goog-hash, Content-MD5, or an ETag of 32 digits (not of a multipart upload)."""
    if encoded := re.search(r"md5=([A-Za-z0-9+/]{22}==)", goog) or re.fullmatch(r"([A-Za-z0-9+/]{22}==)", content_md5):
        with contextlib.suppress(binascii.Error):
            return base64.b64decode(encoded[1]).hex()
    plain = etag.strip().strip('"').lower()
    return plain if not etag.startswith("W/") and re.fullmatch(r"[0-9a-f]{32}", plain) else None


def _fetch(session: http.Session, file: ServedFile, parts: Path, bar: Progress) -> None:
    """Get the whole, checked file into `parts`, going on from the bytes of an earlier call if the version is the same.

    Raises Refusal if wrong bytes come twice, or if no further bytes come in several tries.
    """
    part, stamp = parts / file.name, parts / f"{file.name}.json"
    version = json.dumps([file.size, file.etag])
    if not stamp.is_file() or stamp.read_text() != version or _size(part) > file.size:
        bar.advance(-min(_size(part), file.size))
        part.unlink(missing_ok=True)
        stamp.write_text(version)
    faults: list[str] = []

    def receive() -> None:
        _receive(session, file, part, bar)
        if (fault := _fault(part, file)) is not None:
            bar.advance(-_size(part))
            part.unlink()
            faults.append(fault)
            if len(faults) == 2:
                raise Refusal(f"{file.url}: {fault}, twice; nothing was kept. Another mirror: {MIRROR}")
            raise http.BrokenBody(fault)

    try:
        http.retried(receive, progress=lambda: _size(part))
    except http.BrokenBody as error:
        raise _given_up(file.url, error) from error


def _receive(session: http.Session, file: ServedFile, part: Path, bar: Progress) -> None:
    """Append to `part` the bytes that it lacks; raises BrokenBody if they do not all come."""
    have = _size(part)
    if have == file.size:
        return
    headers = {"Range": f"bytes={have}-", **({"If-Range": file.etag} if file.etag else {})} if have else {}
    with _ask(session, file.url, **headers) as reply:
        _check_status(reply, file.url)
        resumed = reply.status_code == 206
        if resumed and not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise http.BrokenBody(f"asked for bytes from {have} on, got {reply.headers.get('Content-Range')}")
        if have and not resumed:
            bar.advance(-have)
        with part.open("ab" if resumed else "wb") as out:
            http.read_body(reply, lambda piece: bar.advance(out.write(piece)))
    if _size(part) < file.size:
        raise http.BrokenBody(f"cut after {_size(part)} of {file.size} bytes")


def _fault(path: Path, file: ServedFile) -> str | None:
    """What is wrong with a file that has come; None: nothing that can be told."""
    if _size(path) != file.size:
        return f"{_size(path)} bytes came, {file.size} were announced"
    if file.md5 is not None:
        with path.open("rb") as content:
            md5 = hashlib.file_digest(content, "md5").hexdigest()
        if md5 != file.md5:
            return f"the MD5 of what came is {md5}, the server's is {file.md5}"
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


def _ask(session: http.Session, url: str, *, method: str = "GET", **headers: str) -> http.Response:
    """The reply; raises Refusal if the server cannot be reached."""
    try:
        return http.ask(session, url, method=method, **headers)
    except http.Unreachable as error:
        raise Refusal(
            f"{url}: {urlsplit(url).netloc} could not be reached in {http.TRIES} tries "
            f"({type(error.__cause__).__name__}). Without a network: "
            f"model=local checkpoint.path=FOLDER for a copy on disk, {MIRROR}=URL for a mirror, or "
            "checkpoint.source=hub with HF_HUB_OFFLINE=1 and what is in HF_HOME. What has come is kept"
        ) from error


def _check_status(reply: http.Response, url: str) -> None:
    if reply.status_code in http.PASSING:
        raise _given_up(url, f"HTTP {reply.status_code}")
    if reply.status_code >= 400:
        raise Refusal(f"{url}: HTTP {reply.status_code} {reply.reason}")


def _given_up(url: str, fault: object) -> Refusal:
    return Refusal(
        f"{url}: {fault}, {http.TRIES} times in a row; what has come is kept, the same command goes on from there"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _link(source: Path, target: Path) -> None:
    """Give the file a second name, so that nothing is lost if the process is killed before the folder is published."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        os.rename(source, target)
