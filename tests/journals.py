"""Journals of a made-up sweep, as runs write them, where a test needs many runs and no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.domain.digests import digest
from sweep.system.store import Store
from sweep.tracking import Journal

TASKS = {"arc_easy": "acc", "piqa": "acc"}
DOCUMENTS = 40
MACHINE: dict[str, Any] = {
    "host": "node1",
    "pid": 17,
    "versions": {"torch": "2.13.0"},
    "git": None,
    "user": "ada",
    "machine": {"cpu": "a CPU", "cores": 4, "memory_gb": 16.0, "gpus": []},
    "requirements": "torch==2.13.0\n",
    "config_yaml": "tracking:\n  enabled: false\n  uri: null\n  experiment: sweep\n",
}
"""What an attempt says of where it ran."""


def params(**changed: Any) -> dict[str, Any]:
    """Of one run, in the form that `config.params` gives."""
    plain = {
        "model": "toy",
        "arm": "decay",
        "tasks": "core8",
        "seed": 0,
        "checkpoint.step": 100,
        "checkpoint.path": None,
    }
    plain |= {"anneal": "decay", "anneal.steps": 20, "anneal.shape": "linear", "anneal.peak_lr": None}
    plain |= {"anneal.peak_scale": None, "anneal.final_fraction": 0.0, "anneal.warmup_steps": 0}
    plain |= {"anneal.hold_steps": 0, "anneal.optimizer": "keep", "tasks.limit": None}
    return plain | {f"tasks.suites.core8.metrics.{task}": metric for task, metric in TASKS.items()} | changed


def write_run(
    sweep: Path,
    *,
    gain: float,
    noise: float = 0.0,
    status: str = "finished",
    records: bool = False,
    inputs: dict[str, Any] | None = None,
    command: str | None = None,
    tracked: bool = False,
    **changed: Any,
) -> Path:
    """One run's folder: a loss that fell by `gain` and accuracies that rose by it, in a journal; its path.

    `records` also writes the documents' records: as many more are right after as the gain says. `inputs` is what it
    recorded of its checkpoint and data. The report of a `tracked` run is put into MLflow, whose database takes seconds
    to make.
    """
    chosen = params(**changed)
    name = f"toy@{chosen['checkpoint.step']} " + " ".join(str(chosen[k]) for k in ("arm", "anneal.steps", "seed"))
    name += f" {chosen['anneal.shape']} {chosen['anneal.peak_scale']}"
    key = digest(chosen)
    folder = sweep / f"{name.replace(' ', '_').replace('@', '-')}-{key[:8]}"
    before, after = _scores(0.0), _scores(gain + noise)
    delta = [{**new, "value": new["value"] - old["value"]} for old, new in zip(before, after, strict=True)]
    with Journal(folder) as journal:
        started = {
            "key": key,
            "name": name,
            "sweep": sweep.name,
            "params": chosen,
            "command": command or f"python -m sweep {name}",
        }
        config = MACHINE["config_yaml"].replace("enabled: false", f"enabled: {str(tracked).lower()}")
        journal.write("attempt", **started, **MACHINE | {"config_yaml": config})
        if inputs is not None:
            journal.write("inputs", **inputs)
        journal.write("scores", when="before", scores=before)
        for update in range(1, 4):
            lr = 1e-3 * (1 - update / 3)
            norms = {"grad_norm": 1.0, "param_norm": 10.0, "update_norm": 0.1}
            journal.write("step", update=update, lr=lr, loss=4.0, tokens=update, seconds=0.1, **norms)
        if status == "finished":
            journal.write("scores", when="after", scores=after)
            journal.write("scores", when="delta", scores=delta)
            if records:
                _write_records(journal, folder, gain)
        result = _result(chosen, key, before, after, delta) if status == "finished" else None
        if status != "running":
            error = None if status == "finished" else "ValueError: a loss is not finite"
            journal.write("outcome", status=status, error=error, result=result)
    return folder


def _scores(gain: float) -> list[dict[str, Any]]:
    score = {"stderr": 0.01, "documents": DOCUMENTS}
    tasks = [{"task": task, "metric": metric, "value": 0.3 + gain, **score} for task, metric in TASKS.items()]
    likely = [{"task": task, "metric": "correct_prob", "value": 0.2 + gain, **score} for task in TASKS]
    held_out = {"task": "heldout", "metric": "loss", "value": 4.5 - gain, **score}
    return [*tasks, *likely, held_out, {"task": "core8", "metric": "mean", "value": 0.3 + gain, **score}]


def _result(chosen: dict[str, Any], key: str, *scores: list[dict[str, Any]]) -> dict[str, Any]:
    steps = chosen["anneal.steps"]
    cost = {"tokens": steps * 100, "flops": 1.0, "anneal_s": steps * 0.1, "updates_done": steps, "scoring_s": 1.0}
    position = {"step": chosen["checkpoint.step"], "tokens": chosen["checkpoint.step"] * 1000, "lr": 1e-3}
    before, after, delta = scores
    made = {"before": before, "after": after, "delta": delta, "final_state": f"state of {key}", "final_loss": 4.0}
    made |= {"key": key, "params": chosen}
    return {"position": position, "cost": {**cost, "preparing_s": 0.0, "seconds": 3.0}, **made}


def _write_records(journal: Journal, folder: Path, gain: float) -> None:
    for task in TASKS:
        for when, right in (("before", 0.3), ("after", 0.3 + gain)):
            store, key = Store(folder.parents[1] / "store"), digest(folder.name, when, task)
            with store.writing("scores", key) as entry:
                pq.write_table(_records(round(right * DOCUMENTS)), entry / "records.parquet")
            path = f"../../store/scores/{key}/records.parquet"
            journal.write("artifact", name=f"records/{when}/{task}.parquet", path=path)


def _records(right: int) -> pa.Table:
    """Two choices a document, the gold one likelier in the first `right` of them."""
    document = np.repeat(np.arange(DOCUMENTS, dtype=np.int32), 2)
    choice = np.tile(np.array([0, 1], dtype=np.int16), DOCUMENTS)
    likely = np.where((choice == 0) == (document < right), -1.0, -2.0)
    one = np.ones(2 * DOCUMENTS, dtype=np.int32)
    columns = {"document": document, "choice": choice, "log_probability": likely, "tokens": one, "characters": one}
    return pa.table({**columns, "bytes": one, "gold": choice == 0})
