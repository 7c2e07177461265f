"""The one entrance: `sweep COMMAND …` runs a command; every other command line is Hydra's and starts runs."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator

from sweep.domain.errors import unknown
from sweep.system.terminal import accept_any_encoding, discard_output, mask_secrets

COMMANDS = {
    "preview": "show what a sweep will do and cost, before anything is loaded",
    "status": "show the state of every run of a sweep; --watch, --wait, --cancel",
    "report": "show which choice matters, how sure that is, and what to run next",
    "sync": "bring MLflow up to date from the runs' journals",
    "ui": "open the MLflow UI on the results in this folder",
    "server": "run a shared MLflow server on PostgreSQL",
    "space": "show what the store holds, and free disk space",
    "export": "write an annealed model as a Hugging Face folder",
    "heldout": "make the held-out text of a model from files of text or tokens",
    "harness": "run lm-eval's own command line on a checkpoint",
}
"""Module in `sweep.commands` -> its line in `sweep --help`."""
INTERRUPTED = 130
"""The exit code that shells give a command after Ctrl-C."""


def main() -> None:
    """Run the command that the first argument names, or Hydra; an interrupt that it leaves to us ends it quietly."""
    try:
        _run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run() -> None:
    accept_any_encoding()
    mask_secrets()
    arguments = sys.argv[1:]
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        sys.argv = [f"sweep {first}", *arguments[1:]]
        try:
            with _interrupt_ends():
                command = importlib.import_module(f"sweep.commands.{first}")
            command.main()
        except BrokenPipeError:  # nobody reads any more: `| head`
            discard_output()
        return
    if first and "=" not in first and not first.startswith(("-", "~")):  # neither an override nor an option
        sys.exit(f"refused: {unknown(first, COMMANDS)}; `sweep --help` says what each command does")
    if {"--help", "-h"} & set(arguments):
        lines = (f"  sweep {name:8} {line}\n" for name, line in COMMANDS.items())
        sys.stdout.write(f"Commands (`sweep COMMAND --help` says more):\n{''.join(lines)}\n")
        sys.stdout.flush()
    with _interrupt_ends():
        from sweep.commands.main import main as hydra_main

    hydra_main()


@contextlib.contextmanager
def _interrupt_ends() -> Iterator[None]:
    """Within the block, Ctrl-C ends the process at once: nothing has begun, and imports would answer by a traceback."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, or another's
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
