"""The one entrance: `python -m sweep …` is Hydra's, `sweep COMMAND …` is one of the other commands."""

from __future__ import annotations

import importlib
import re
import sys

from sweep.domain.errors import unknown

COMMANDS = {
    "preview": "what a sweep will do and cost, before anything is loaded",
    "status": "how every run of a sweep stands; --watch, --wait, --cancel",
    "report": "which choice matters, how sure that is, what to run next",
    "sync": "bring MLflow up to date from the runs' journals",
    "ui": "the MLflow UI on the outcomes here",
    "server": "a shared MLflow server on PostgreSQL",
    "space": "what the store holds, and how to free room",
    "export": "an annealed model as a Hugging Face folder",
    "harness": "lm-eval's own command line on a checkpoint",
}


def main() -> None:
    """Run the command that the first word names; every other command line is Hydra's."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in COMMANDS:
        sys.argv = [f"sweep {first}", *sys.argv[2:]]
        importlib.import_module(f"sweep.commands.{first}").main()
        return
    if re.fullmatch(r"[a-z]\w*", first):  # an override has a `=` or begins with `~` or `-`
        sys.exit(f"sweep: {unknown(first, COMMANDS)}; `sweep --help` lists the commands")
    if first in ("--help", "-h"):
        lines = (f"  sweep {name:9} {line}\n" for name, line in COMMANDS.items())
        sys.stdout.write(f"Commands (`sweep COMMAND --help` says more):\n{''.join(lines)}\n")
        sys.stdout.flush()
    from sweep.commands.main import main as hydra_main

    hydra_main()


if __name__ == "__main__":
    main()
