"""Where each point of a sweep keeps what it makes, and whether it is done."""

from __future__ import annotations

from pathlib import Path

from sweep.config import RunConfig
from sweep.planning.keys import run_key
from sweep.planning.names import run_folder
from sweep.tracking import outcome

MULTIRUN = Path("multirun")


def expected_folder(config: RunConfig) -> Path:
    """Where the run of this point keeps what it makes."""
    return MULTIRUN / config.name / run_folder(config)


def is_done(config: RunConfig, folder: Path) -> bool:
    """Whether this point finished before."""
    last = outcome(folder)
    return last is not None and last["status"] == "finished" and last["result"]["key"] == run_key(config)


def objective(folder: Path) -> float | None:
    """What a sweeper that seeks, such as Optuna's, minimises: a done run's held-out loss after it, in nats a token.

    None where there is none.
    """
    last = outcome(folder)
    scores = last["result"]["after"] if last is not None and last["status"] == "finished" else ()
    losses = (s["value"] for s in scores if s["metric"] == "loss" and s["task"].partition(":")[0] == "heldout")
    return next(losses, None)
