"""Printing that can't fail, whatever the encoding and if nobody reads; logs and warnings without secrets."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any

from sweep.domain.redaction import SECRETS, redact

_formatted_warning = warnings.formatwarning


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


def mask_secrets() -> None:
    """From now on passwords and tokens in addresses are masked in this process's logs, warnings and tracebacks."""
    logging.setLogRecordFactory(_masked)
    sys.excepthook = _print_masked
    warnings.formatwarning = _masked_warning


def _masked(*arguments: Any, **named: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **named)
    with contextlib.suppress(Exception):  # a message that doesn't fit its arguments is logging's to report
        text = record.getMessage()
        if (clean := without_secrets(text)) != text:
            record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = without_secrets("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return record


def _print_masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


def _masked_warning(*arguments: Any, **named: Any) -> str:
    return without_secrets(_formatted_warning(*arguments, **named))


def without_secrets(text: str) -> str:
    """The text, with secrets of the environment and of addresses masked."""
    return redact(text, secrets=map(os.environ.get, SECRETS))
