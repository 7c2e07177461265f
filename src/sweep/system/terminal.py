"""Printing that can't fail: neither an encoding without our characters nor a reader that has gone ends a command."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def accept_any_encoding() -> None:
    """From now on a character that the terminal's encoding lacks is printed as a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # a stream opened for reading too can't be changed
                stream.reconfigure(errors="replace")


def show(text: str) -> None:
    """Print the text; if nobody reads any more (`| head`), it is dropped."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()


def discard_output() -> None:
    """From now on what is printed goes nowhere: Python would fail once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
