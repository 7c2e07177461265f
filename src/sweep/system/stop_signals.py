"""Stopping on request: a signal sets a flag, and the work ends at its next place where nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

ASKED = "asked to stop; what was done is saved"


class Stopped(BaseException):
    """The work stopped on request. No `except Exception` on the way may take this for a failure."""


@dataclass
class _Request:
    """Whether this process was asked to stop."""

    arrived: bool = False

    def receive(self, number: int, frame: Any) -> None:
        """Handle a signal: remember it."""
        self.arrived = True


_request = _Request()
"""The one request of this process, as a process has one handler for each signal."""


def listen(signals: Iterable[signal.Signals]) -> None:
    """From now on these signals ask this process to stop, and do nothing else."""
    _request.arrived = False
    for number in signals:
        signal.signal(number, _request.receive)


def asked() -> bool:
    """Whether a signal has come since `listen`."""
    return _request.arrived


def check() -> None:
    """Raise Stopped if a signal has come: called at places where nothing is lost."""
    if asked():
        raise Stopped(ASKED)


def pause(seconds: float) -> None:
    """Sleep; then raise Stopped if a signal has come."""
    time.sleep(seconds)
    check()
