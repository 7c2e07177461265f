"""What 10,000 points cost before and after their runs: a preview, and a sweep whose runs are all done.

python bench/points.py FOLDER [--points 10000] [--steps 100]      # makes FOLDER, with journals as runs leave them
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.journals import MACHINE

from sweep.commands.preview import planned
from sweep.config import params
from sweep.planning.controls import Point
from sweep.planning.names import run_name
from sweep.sweeps.run_folders import folder_of
from sweep.system.sealed import sealed
from sweep.system.store import Store
from sweep.tracking import FILE

ROOT = Path(__file__).parents[1]
TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
METRICS = (
    "acc",
    "acc_norm",
    "acc_uncond",
    "acc_per_token",
    "correct_prob",
    "norm_correct_prob",
    "margin",
    "bits_per_byte",
)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=10_000, help="a multiple of 4")
    parser.add_argument("--steps", type=int, default=100, help="step lines in each journal")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(given.folder)
    words = [f"anneal.steps=range(1,{given.points // 4 + 1})", "anneal.shape=linear,sqrt", "anneal.peak_scale=0.5,1"]
    words.append("tracking=none")
    measured("preview of points that are not made", "preview", *words)
    points = planned(words)
    for number, point in enumerate(points):
        make(number, point, given.steps)
    for when in ("first, which reads all journals", "again", "and again"):
        measured(f"sweep of done points, {when}", "-m", *words)
    measured("preview of done points", "preview", *words)


def measured(what: str, *words: str) -> None:
    """Say what the command took; its last lines too."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "sweep", *words]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = done.stdout.splitlines()
    if done.returncode:
        sys.exit(f"{what}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    took = f"{cpu_s:.1f} CPU-s, {time.perf_counter() - started:.1f} s"
    say(f"{what}: {took}, {after.ru_maxrss / 1024:.0f} MB at most; {len(lines):,} lines")


def make(number: int, point: Point, steps: int) -> None:
    """The journal and the entries of the store that this run leaves when it is finished."""
    folder, state = folder_of(point.place), f"{number:032x}"
    folder.mkdir(parents=True)
    store = Store(Path("multirun", "store"))
    scored = {when: [*_scores()] for when in ("before", "after", "delta")}
    chosen, name = params(point.config), run_name(point.config)
    attempt = {"key": point.key, "name": name, "sweep": "main", "params": chosen, "command": "python -m sweep"}
    events: list[dict[str, Any]] = [{"event": "attempt", **attempt, **MACHINE}]
    events += [{"event": "scores", "when": when, "scores": scores} for when, scores in scored.items()]
    norms = {"grad_norm": 1.0, "param_norm": 10.0, "update_norm": 0.1}
    events += [
        {"event": "step", "update": i + 1, "lr": 1e-3, "loss": 4.0, "tokens": i, "seconds": 0.1, **norms}
        for i in range(steps)
    ]
    _entry(store, "states", state)
    for when in ("before", "after"):
        for i, task in enumerate(TASKS):
            key = f"{i:02x}{state[2:]}" if when == "after" else f"{i:02x}{0:030x}"
            _entry(store, "scores", key)
            path = f"../../store/scores/{key}/records.parquet"
            events.append({"event": "artifact", "name": f"records/{when}/{task}.parquet", "path": path})
    cost = {"tokens": 96_000, "flops": 1.0, "anneal_s": 1.0, "updates_done": 1, "scoring_s": 1.0, "preparing_s": 0.0}
    result = {"key": point.key, "name": name, "params": chosen, "final_state": state, "final_loss": 4.0}
    result |= {"position": {"step": 2000, "tokens": 1, "lr": 1e-3}, "cost": {**cost, "seconds": 3.0}, **scored}
    events.append({"event": "outcome", "status": "finished", "error": None, "result": result})
    lines = (sealed(json.dumps({"event": event.pop("event"), "time": 1.0, **event})) for event in events)
    (folder / FILE).write_bytes(b"".join(line + b"\n" for line in lines))


def _entry(store: Store, kind: str, key: str) -> None:
    """An entry as far as it is looked at here."""
    entry = store.path(kind, key)
    if not entry.exists():
        entry.mkdir(parents=True)
        (entry / "entry.json").write_text("{}")


def _scores() -> list[dict[str, Any]]:
    score = {"value": 0.3, "stderr": 0.01, "documents": 1000}
    tasks = [{"task": task, "metric": metric, **score} for task in TASKS for metric in METRICS]
    return [*tasks, {"task": "core8", "metric": "mean", **score}, {"task": "heldout", "metric": "loss", **score}]


if __name__ == "__main__":
    main()
