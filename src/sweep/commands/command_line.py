"""What the commands share: how arguments are parsed and explained, and how a command ends when it refuses."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import textwrap
from collections.abc import Callable, Iterator

from sweep.domain.errors import Refusal

DEFAULT_SWEEP = "main"
"""The sweep that every command takes if none is named; conf/config.yaml gives it this name."""


def command_parser(name: str, description: str | None, examples: str) -> argparse.ArgumentParser:
    """The parser of `sweep NAME`; its help ends with the examples."""
    return argparse.ArgumentParser(
        prog=f"sweep {name}",
        description=description,
        epilog=f"examples:\n{textwrap.indent(examples, '  ')}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def port(text: str) -> int:
    """A port's number, 1 to 65535; argparse's error for anything else."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port: 1 to 65535")
    return int(text)


def workers(text: str) -> int:
    """A number of processes, 1 to 256; argparse's error for anything else."""
    if not text.isdecimal() or not 0 < int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes: 1 to 256")
    return int(text)


def seconds(text: str) -> float:
    """A time between two questions, above 0 and at most an hour; argparse's error for anything else."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a time: above 0 and at most 3600 s")
    return number


def refused(error: BaseException) -> str | None:
    """The message for the person if a choice of theirs was refused; None for our own failures."""
    return f"refused: {error}" if isinstance(error, Refusal) else None


@contextlib.contextmanager
def refusals(message: Callable[[BaseException], str | None] = refused) -> Iterator[None]:
    """End the process with exit code 1 and one message, without a traceback, if `message` has one for the error."""
    try:
        yield
    except Exception as error:
        if (text := message(error)) is None:
            raise
        sys.exit(text)
