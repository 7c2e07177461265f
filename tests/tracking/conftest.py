"""Journals as the story writes them: a whole run in a few lines, and what a test changes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.tracking import Journal

from .servers import lab

__all__ = ["lab"]

ATTEMPT: dict[str, Any] = {
    "key": "0123456789abcdef",
    "name": "tiny-s@2000 linear 20",
    "sweep": "steps",
    "params": {
        "model": "tiny-s",
        "anneal.steps": 20,
        "anneal.peak_lr": None,
        "anneal.shape": "linear",
        "anneal.keep": True,
        "tasks.suites.core8.metrics.arc_easy": "acc",
    },
    "host": "node1",
    "pid": 17,
    "versions": {"torch": "2.13.0"},
    "git": {"commit": "c0ffee", "changed": False, "branch": "main", "repoURL": "https://host/sweep"},
    "user": "ada",
    "machine": {"cpu": "a CPU", "cores": 4, "memory_gb": 16.0, "gpus": ["a GPU"]},
    "requirements": "torch==2.13.0\n",
    "config_yaml": "anneal:\n  steps: 20\n",
    "command": "python -m sweep anneal.steps=20",
}


def score(task: str, metric: str, value: float) -> dict[str, Any]:
    return {"task": task, "metric": metric, "value": value, "stderr": 0.01, "documents": 100}


def step(update: int, steps: int, **changed: Any) -> dict[str, Any]:
    lr = 1e-3 * (1 - update / steps)
    record = {"update": update, "lr": lr, "loss": 4 - update / steps, "grad_norm": 0.5, "param_norm": 30.0 + update}
    update_norm = None if update % 10 else 0.1
    return {**record, "tokens": 1024 * update, "seconds": 0.01, "update_norm": update_norm, **changed}


SCORES = {
    "before": [score("arc_easy", "acc", 0.3), score("core8", "mean", 0.31), score("heldout", "loss", 4.2)],
    "after": [score("arc_easy", "acc", 0.4), score("core8", "mean", 0.41), score("heldout", "loss", 4.0)],
    "delta": [score("arc_easy", "acc", 0.1), score("core8", "mean", 0.1), score("heldout", "loss", -0.2)],
}
INPUTS: dict[str, Any] = {
    "checkpoint": {
        "name": "tiny-s@2000",
        "digest": "c" * 32,
        "uri": "https://host/step2000-unsharded",
        "step": 2000,
        "tokens": 768000,
        "lr": 4e-3,
    },
    "peak_lr": 2e-3,
    "window": {"epoch": 0, "first_instance": 2000, "updates": 20, "batch_size": 1, "sequence_length": 384},
    "data": [
        {
            "name": "original",
            "digest": "d" * 32,
            "uri": "store://corpus/k/train.npy",
            "num_files": 1,
            "weight": 1.0,
            "instances": 25191,
            "annealed_on": 20,
            "passes": 0.0008,
        }
    ],
    "heldout": {"digest": "e" * 32, "uri": "/where/corpus"},
    "store": "/where/store",
}
SAMPLE = {"cpu_utilization_percentage": 50.0, "gpu_0_power_usage_watts": 300.5}
RESULT = {
    "key": ATTEMPT["key"],
    "name": ATTEMPT["name"],
    "params": ATTEMPT["params"],
    "final_state": "f" * 32,
    "cost": {"tokens": 20480, "flops": 1e12, "anneal_s": 0.2, "updates_done": 20, "seconds": 1.5},
}


def write_run(
    folder: Path,
    *,
    steps: int = 20,
    status: str | None = "finished",
    changed: dict[int, dict[str, Any]] | None = None,
    inputs: dict[str, Any] = INPUTS,
    result: dict[str, Any] = RESULT,
    **attempt: Any,
) -> Path:
    """A run's folder with its journal, records and outcome; `status` None leaves it running."""
    with Journal(folder) as journal:
        journal.write("attempt", **{**ATTEMPT, **attempt})
        journal.write("scores", when="before", scores=SCORES["before"])
        for update in range(1, steps + 1):
            journal.write("step", **step(update, steps, **(changed or {}).get(update, {})))
        journal.write("inputs", **inputs)
        journal.write("system", values=SAMPLE)
        if status == "finished":
            journal.write("scores", when="after", scores=SCORES["after"])
            journal.write("scores", when="delta", scores=SCORES["delta"])
            (folder / "before.parquet").write_bytes(b"PAR1")
            journal.write("artifact", name="records/before.parquet", path="before.parquet")
            journal.write("outcome", status=status, error=None, result=result)
        elif status is not None:
            journal.write("outcome", status=status, error="Traceback\nValueError: loss is nan", result=None)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Make a run of the sweep "steps" under the test's own folder: `run("a", status="failed")`."""
    return lambda folder="a", **changed: write_run(tmp_path / "steps" / folder, **changed)
