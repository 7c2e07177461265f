"""The HTTP client of the whole project, and the only module that imports `requests`.

A request that fails for a passing reason is repeated, with growing waits. Files are asked for in ranges of bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar

from requests import RequestException, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from sweep.domain.redaction import redact

T = TypeVar("T")

__all__ = ["BrokenBody", "Response", "Session", "Unreachable", "ask", "read_body", "retried", "session"]

TRIES = 5
"""A request, or the body of a reply, is given up after so many failures in a row."""
BACKOFF_S = 1.0
"""Seconds before the second try; they double with each further one."""
TIMEOUT_S = (10.0, 60.0)
"""Longest wait for a connection, and for the next bytes."""
CHUNK = 1 << 16
"""Bytes of a body that are read at a time."""
PASSING = frozenset({408, 425, 429, *range(500, 600)})
"""Statuses that a later try may change."""


class Unreachable(OSError):
    """The server could not be reached, or did not answer, in `TRIES` tries."""


class BrokenBody(OSError):
    """The body of a reply was cut short, or is not the one that was asked for; another try may give it."""


class _Retry(Retry):
    """urllib3's retries, but with a wait before the first one too."""

    def get_backoff_time(self) -> float:
        return _wait_s(len(self.history))


def session(connections: int = 1) -> Session:
    """A session that repeats a request after a lost connection or a passing status; threads may share it."""
    session = Session()
    session.headers["Accept-Encoding"] = "identity"  # sizes and ranges are those of the files
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # cookies would be state that threads share
    retry = _Retry(total=TRIES - 1, status_forcelist=PASSING, raise_on_status=False, respect_retry_after_header=False)
    adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections, max_retries=retry)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def ask(session: Session, url: str, *, method: str = "GET", **headers: str) -> Response:
    """The reply to one request, its body unread; it has a passing status only if all tries gave one.

    Raises Unreachable.
    """
    try:
        return session.request(method, url, headers=headers, timeout=TIMEOUT_S, stream=True, allow_redirects=True)
    except RequestException as error:
        raise Unreachable(redact(f"{type(error).__name__}: {error}")) from error


def read_body(reply: Response, write: Callable[[bytes], object]) -> None:
    """Give the body of a reply to `write`, piece by piece as it comes; raises BrokenBody if it is cut."""
    pieces = reply.iter_content(CHUNK)
    while True:
        try:
            piece = next(pieces, None)
        except RequestException as error:
            raise BrokenBody(redact(f"{type(error).__name__}: {error}")) from error
        if piece is None:
            return
        write(piece)


def retried(attempt: Callable[[], T], *, progress: Callable[[], int] = lambda: 0) -> T:
    """The result of `attempt`, which is called again after a BrokenBody, `TRIES` times in a row without progress.

    `progress` is a number that grows as bytes come. Raises the last BrokenBody.
    """
    failures, best = 0, progress()
    while True:
        try:
            return attempt()
        except BrokenBody:
            failures, best = (1, now) if (now := progress()) > best else (failures + 1, best)
            if failures >= TRIES:
                raise
        time.sleep(_wait_s(failures))


def _wait_s(failures: int) -> float:
    """Seconds to wait after so many failures: partly random, so that many connections do not come back at once."""
    return BACKOFF_S * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
