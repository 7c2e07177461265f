"""Where each run of a sweep keeps its files, and whether it is finished."""

from __future__ import annotations

from pathlib import Path

from sweep.config import RunConfig
from sweep.planning.names import run_folder, run_key
from sweep.tracking import outcome

MULTIRUN = Path("multirun")


def expected_folder(config: RunConfig) -> Path:
    """The folder where the run of this configuration keeps its files."""
    return MULTIRUN / config.name / run_folder(config)


def is_done(config: RunConfig, folder: Path) -> bool:
    """Whether the run of this configuration is finished."""
    return is_finished(run_key(config), folder)


def is_finished(key: str, folder: Path) -> bool:
    """Whether the run with this key is finished."""
    last = outcome(folder)
    return last is not None and last["status"] == "finished" and last["result"]["key"] == key


def objective(folder: Path) -> float | None:
    """What a sweeper that seeks, such as Optuna's, minimises: a finished run's held-out loss, in nats per token.

    None if the run isn't finished or has no held-out loss.
    """
    last = outcome(folder)
    scores = last["result"]["after"] if last is not None and last["status"] == "finished" else ()
    losses = (s["value"] for s in scores if s["metric"] == "loss" and s["task"].partition(":")[0] == "heldout")
    return next(losses, None)
