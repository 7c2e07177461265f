"""Stopping when asked: a signal sets a flag, and the work ends at its next place where nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from typing import Any

ASKED = "asked to stop; what was done is saved"

_asked = False


class Stopped(BaseException):
    """The work stopped because it was asked to; no `except Exception` on the way may take it for a failure."""


def listen(signals: Iterable[signal.Signals]) -> None:
    """From now on these signals ask this process to stop, and do nothing else."""
    global _asked
    _asked = False
    for number in signals:
        signal.signal(number, _ask)


def asked() -> bool:
    """Whether a signal has come."""
    return _asked


def check() -> None:
    """Raise Stopped where a signal has come: here nothing is lost."""
    if _asked:
        raise Stopped(ASKED)


def pause(seconds: float) -> None:
    """Wait so long; Stopped where a signal has come by then."""
    time.sleep(seconds)
    check()


def _ask(number: int, frame: Any) -> None:
    global _asked
    _asked = True
