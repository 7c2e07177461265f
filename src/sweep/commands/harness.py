"""`sweep harness ARGUMENTS`: lm-eval's own command line with one more model, `sweep`, an OLMo checkpoint folder.

examples:
  sweep harness --model sweep --model_args checkpoint=FOLDER,tokenizer=FILE --tasks arc_easy
  sweep harness ls tasks

The arguments are those of `python -m lm_eval`, whose own help follows.
"""

from __future__ import annotations

import sys

from lm_eval.__main__ import cli_evaluate

from sweep.commands.command_line import refusals


@refusals()
def main() -> None:
    """Run lm-eval's command line, after our own lines where help is asked for, which loads nothing heavy."""
    if sys.argv[1:2] in (["--help"], ["-h"]):
        sys.stdout.write(f"{__doc__}\n")
    else:
        import sweep.commands.harness_model  # noqa: F401 (registers the model)
    cli_evaluate()
