"""Token memmaps behind HTTP: sizes and versions by one small request per file, instances by parallel range requests.

OLMo's own paths name buckets that are closed; their public address is https://olmo-data.org, by an
earlier README of allenai/OLMo (`r2://olmo-data`) and by allenai/OLMo#759 (`s3://ai2-llm`).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from sweep.domain.digests import digest
from sweep.system import http
from sweep.system.store import Store

PUBLIC = {"s3://ai2-llm/": "https://olmo-data.org/", "r2://olmo-data/": "https://olmo-data.org/"}
NPY_MAGIC = b"\x93NUMPY"
CONNECTIONS = 16
GAP = 1 << 16
"""Bytes between two wanted instances below which reading on costs less than another request."""
LONGEST = 1 << 23
"""Largest number of bytes in one request, so that a cut connection costs little."""


class RemoteError(OSError):
    """A file behind HTTP cannot be read, or is not the one that was listed."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its server describes it."""

    url: str
    size: int
    """Bytes."""
    version: str
    """Its ETag, else its Last-Modified, else empty."""


@dataclass(frozen=True)
class Wanted:
    """Instances wanted from one file."""

    file: RemoteFile
    rows: np.ndarray
    """(n,) numbers of instances in the file."""
    slots: np.ndarray
    """(n,) rows of the result that they go to."""


def public_url(path: str) -> str | None:
    """The HTTP address of a path; None if it has none."""
    for private, public in PUBLIC.items():
        if path.startswith(private):
            return public + path.removeprefix(private)
    return path if path.startswith(("http://", "https://")) else None


def listing(store: Store, urls: Sequence[str]) -> list[RemoteFile]:
    """The files as they were when first asked for, kept in the store; raises RemoteError for one that can't be read."""

    def build(folder: Path) -> None:
        with http.session(CONNECTIONS) as session, ThreadPoolExecutor(CONNECTIONS) as pool:
            files = list(pool.map(functools.partial(probe, session), urls))
        (folder / "files.json").write_text(json.dumps([asdict(file) for file in files], indent=1))

    folder = store.make("listings", digest("listing", list(urls)), build)
    return [RemoteFile(**file) for file in json.loads((folder / "files.json").read_text())]


def probe(session: http.Session, url: str) -> RemoteFile:
    """Size and version of a remote memmap, by a request for its first bytes."""
    content, file = _read(session, url, 0, len(NPY_MAGIC))
    if content == NPY_MAGIC:
        raise RemoteError(f"{url} has a NumPy header; OLMo's memmaps are raw")
    return file


def fetch(wanted: Iterable[Wanted], out: np.ndarray, *, progress: Callable[[int], None]) -> None:
    """Put the wanted instances into `out` (N, T), which has the files' dtype; `progress` gets the bytes that came."""
    size = out.itemsize * out.shape[1]
    with http.session(CONNECTIONS) as session:
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            waiting = [pool.submit(_fetch, session, span, out, size) for each in wanted for span in spans(each, size)]
            for done in as_completed(waiting):
                progress(done.result())
        finally:
            pool.shutdown(cancel_futures=True)


def spans(wanted: Wanted, size: int) -> Iterator[Wanted]:
    """The same instances in the order of the file, one part per request; `size` is the bytes of an instance."""
    order = np.argsort(wanted.rows, kind="stable")
    rows, slots = wanted.rows[order], wanted.slots[order]
    first = 0
    for end in range(1, len(rows) + 1):
        if (
            end == len(rows)
            or (rows[end] - rows[end - 1] - 1) * size > GAP
            or (rows[end] + 1 - rows[first]) * size > LONGEST
        ):
            yield Wanted(wanted.file, rows[first:end], slots[first:end])
            first = end


def _fetch(session: http.Session, span: Wanted, out: np.ndarray, size: int) -> int:
    """Put one request's instances into `out`; the bytes they have."""
    listed, first, end = span.file, int(span.rows[0]), int(span.rows[-1]) + 1
    content, file = _read(session, listed.url, first * size, end * size)
    if file != listed:
        raise RemoteError(
            f"{file.url} has changed since it was listed: it had {listed.size} bytes and version {listed.version!r}, "
            f"now {file.size} and {file.version!r}; `sweep space --free listings` has it listed anew"
        )
    out[span.slots] = np.frombuffer(content, dtype=out.dtype).reshape(end - first, -1)[span.rows - first]
    return len(span.rows) * size


def _read(session: http.Session, url: str, start: int, end: int) -> tuple[bytes, RemoteFile]:
    """The bytes [start, end) of a file, as far as it has them, and the file; raises RemoteError after some tries."""
    try:
        return http.retried(lambda: _read_once(session, url, start, end))
    except (http.Unreachable, http.BrokenBody) as error:
        raise RemoteError(f"{url}, bytes {start} to {end - 1}: {error}") from error


def _read_once(session: http.Session, url: str, start: int, end: int) -> tuple[bytes, RemoteFile]:
    content = bytearray()
    with http.ask(session, url, Range=f"bytes={start}-{end - 1}") as reply:
        if reply.status_code == 200:
            raise RemoteError(f"{url}: the server ignores range requests; download the file instead")
        if reply.status_code != 206 and not (reply.status_code == 416 and start == 0):
            raise RemoteError(f"{url}, bytes {start} to {end - 1}: status {reply.status_code}")
        content_range = reply.headers.get("Content-Range", "")
        if (match := re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", content_range)) is None:
            raise RemoteError(f"{url}: Content-Range is {content_range!r}")
        http.read_body(reply, content.extend)
    first, last, size = int(match[1] or 0), int(match[2] or -1), int(match[3])
    whole = (first, last) == (start, min(end, size) - 1) and len(content) == last + 1 - first
    if not whole and not size == start == 0:
        raise http.BrokenBody(f"got {len(content)} bytes announced as {first} to {last} of {size}")
    return bytes(content), RemoteFile(url, size, reply.headers.get("ETag") or reply.headers.get("Last-Modified") or "")
