"""Token memmaps behind HTTP: sizes and versions by one small request a file, instances by parallel range requests.

OLMo's own paths name buckets that are closed; their public address is https://olmo-data.org, by an
earlier README of allenai/OLMo (`r2://olmo-data`) and by allenai/OLMo#759 (`s3://ai2-llm`).
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests

from sweep.domain.digests import digest
from sweep.system.store import Store

PUBLIC = {"s3://ai2-llm/": "https://olmo-data.org/", "r2://olmo-data/": "https://olmo-data.org/"}
NPY_MAGIC = b"\x93NUMPY"
CONNECTIONS = 16
GAP = 1 << 16
"""Bytes between two wanted instances below which reading on costs less than another request."""
LONGEST = 1 << 23
"""Bytes of a request, so that a cut connection costs little."""
ATTEMPTS = 6
FIRST_WAIT_S = 0.5
"""Doubled after every failed attempt."""
TIMEOUT_S = 30.0
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Statuses worth another attempt."""

_local = threading.local()


class RemoteError(OSError):
    """A server that doesn't give what it should."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as its server described it when it was first listed."""

    url: str
    size: int
    version: str
    """Its ETag, else its Last-Modified, else empty."""


@dataclass(frozen=True)
class Wanted:
    """Instances wanted of one file."""

    file: RemoteFile
    rows: np.ndarray
    """(n,) numbers of instances in the file."""
    slots: np.ndarray
    """(n,) where they go."""


def public_url(path: str) -> str | None:
    """The HTTP address of a path; None where it has none."""
    for private, public in PUBLIC.items():
        if path.startswith(private):
            return public + path.removeprefix(private)
    return path if path.startswith(("http://", "https://")) else None


def listing(store: Store, urls: Sequence[str]) -> list[RemoteFile]:
    """The files as they were when first asked for, kept in the store; RemoteError for one that can't be read."""

    def build(folder: Path) -> None:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            found = list(pool.map(probe, urls))
        (folder / "files.json").write_text(json.dumps([asdict(file) for file in found], indent=1))

    folder = store.make("listings", digest("listing", list(urls)), build)
    return [RemoteFile(**file) for file in json.loads((folder / "files.json").read_text())]


def probe(url: str) -> RemoteFile:
    """Size and version of a remote memmap, by a request for its first bytes."""
    reply = _get(url, 0, len(NPY_MAGIC))
    if reply.content == NPY_MAGIC:
        raise RemoteError(f"{url} has a NumPy header; OLMo's memmaps are raw")
    return RemoteFile(url, _range(reply)[2], _version(reply))


def fetch(wanted: Iterable[Wanted], out: np.ndarray, *, progress: Callable[[int], None]) -> None:
    """Put the wanted instances into `out` (N, T), whose dtype is that of the files; `progress` gets their bytes."""
    size = out.itemsize * out.shape[1]
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        waiting = [pool.submit(_fetch, span, out, size) for one in wanted for span in spans(one, size)]
        for done in as_completed(waiting):
            progress(done.result())
    finally:
        pool.shutdown(cancel_futures=True)


def spans(wanted: Wanted, size: int) -> Iterator[Wanted]:
    """The same instances in file order, cut where a new request of instances of `size` bytes is due."""
    order = np.argsort(wanted.rows, kind="stable")
    rows, slots = wanted.rows[order], wanted.slots[order]
    first = 0
    for at in range(1, len(rows) + 1):
        if (
            at == len(rows)
            or (rows[at] - rows[at - 1] - 1) * size > GAP
            or (rows[at] + 1 - rows[first]) * size > LONGEST
        ):
            yield Wanted(wanted.file, rows[first:at], slots[first:at])
            first = at


def _fetch(span: Wanted, out: np.ndarray, size: int) -> int:
    file, first, end = span.file, int(span.rows[0]), int(span.rows[-1]) + 1
    reply = _get(file.url, first * size, end * size)
    if (_range(reply)[2], _version(reply)) != (file.size, file.version):
        raise RemoteError(
            f"{file.url} has changed since it was listed: it had {file.size} bytes and version {file.version!r}, now "
            f"{_range(reply)[2]} and {_version(reply)!r}; `sweep space --free listings` has it listed anew"
        )
    out[span.slots] = np.frombuffer(reply.content, dtype=out.dtype).reshape(end - first, -1)[span.rows - first]
    return len(span.rows) * size


def _get(url: str, start: int, end: int) -> requests.Response:
    """The reply with bytes [start, end), as far as the file has them; RemoteError after some attempts."""
    problem: object = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
            with _session().get(url, headers=headers, timeout=TIMEOUT_S, stream=True) as reply:
                if reply.status_code == 200:
                    raise RemoteError(f"{url}: the server ignores range requests; download the file instead")
                if reply.status_code == 206 or (reply.status_code == 416 and start == 0):
                    problem = _mismatch(reply, start, end)
                    if problem is None:
                        return reply
                else:
                    problem = f"status {reply.status_code}"
                    if reply.status_code not in PASSING:
                        break
        except requests.RequestException as error:
            problem = error
    raise RemoteError(f"{url}, bytes {start} to {end - 1}: {problem}")


def _mismatch(reply: requests.Response, start: int, end: int) -> str | None:
    """What is wrong with the bytes of a reply, which this reads; None where they are the ones asked for."""
    first, last, size = _range(reply)
    if (first, last) == (start, min(end, size) - 1) and len(reply.content) == last + 1 - first:
        return None
    if size == 0 and start == 0:
        return None
    return f"got {len(reply.content)} bytes said to be {first} to {last} of {size}"


def _range(reply: requests.Response) -> tuple[int, int, int]:
    """First byte, last byte and size of the file, from the Content-Range header."""
    said = reply.headers.get("Content-Range", "")
    if (match := re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)", said)) is None:
        raise RemoteError(f"{reply.url}: Content-Range is {said!r}")
    return int(match[1] or 0), int(match[2] or -1), int(match[3])


def _version(reply: requests.Response) -> str:
    headers: Any = reply.headers
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")


def _session() -> requests.Session:
    """One a thread: a session is not made to be shared."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    return _local.session
