"""The one private part of Submitit that we use: it has no public way to see a batch script without submitting it.

`tests/launch/test_submitit_private.py` fails if it changes.
"""

from __future__ import annotations

from submitit import AutoExecutor


def batch_script(executor: AutoExecutor, command: str) -> str:
    """The text of the batch script in which Slurm would run the command."""
    return executor._executor._make_submission_file_text(command, "test")  # type: ignore[attr-defined]
