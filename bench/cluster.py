"""Many tiny runs: by few workers of a cluster, and one after another in one process; what is neither anneal nor score.

    tests/slurm/start_slurm.sh && . /tmp/sweep-slurm/env.sh
    python bench/cluster.py FOLDER [--runs 200] [--steps 100] [--limit 20] [--workers 2] [--only cluster,serial]

The embedded checkpoint is made first, and not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

sys.path.append(sys.path.pop(0))  # this folder comes last: sweep.py in it has the name of the package

from sweep.launch.cluster import FINAL, described, last_states
from sweep.launch.job_log import submissions
from sweep.tracking import read


def sweep(home: Path, *words: str) -> float:
    """Seconds of the command."""
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sweep", *words], cwd=home, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - began


def job_seconds(folder: Path) -> float:
    """Seconds that the jobs of a sweep took in all, from their start to their end."""
    total = 0.0
    jobs = {job for given in submissions(folder).values() for job in given.jobs}
    while {
        job for job, state in last_states(jobs).items() if state in FINAL
    } != jobs:  # the command returns with the last outcome, before Slurm has cleared away
        time.sleep(0.5)
    for job in jobs:
        facts = described(job)
        start, end = (datetime.fromisoformat(facts[name]) for name in ("StartTime", "EndTime"))
        total += (end - start).total_seconds()
    return total


def report(name: str, folder: Path, *, wall_s: float, busy_s: float) -> None:
    costs = [
        events.outcome["result"]["cost"] for p in folder.glob("*/journal.jsonl") if (events := read(p.parent)).outcome
    ]
    anneal, scoring, whole = (sum(c[k] for c in costs) for k in ("anneal_s", "scoring_s", "seconds"))
    rest = busy_s - anneal - scoring
    sys.stdout.write(
        f"{name}: {len(costs)} runs, wall {wall_s:.0f} s, processes {busy_s:.0f} s: annealing {anneal:.0f}, scoring "
        f"{scoring:.0f}, neither {rest:.0f} s = {rest / busy_s:.1%} (inside the runs {whole - anneal - scoring:.0f})\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, value in {"runs": 200, "steps": 100, "limit": 20, "workers": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--only", default="cluster,serial")
    parser.add_argument("words", nargs="*", help="further overrides")
    asked = parser.parse_intermixed_args()
    ready = asked.folder / "ready"
    one = ["checkpoint.step=500", f"anneal.steps={asked.steps}", f"tasks.limit={asked.limit}", *asked.words]
    os.environ["OMP_NUM_THREADS"] = "1"
    sweep(ready, "anneal.steps=0", "checkpoint.step=500", "tasks=loss", "tasks.limit=2", "tracking=none")
    seeds = "seed=" + ",".join(str(1 + i) for i in range(asked.runs))
    for name in asked.only.split(","):
        home = asked.folder / name
        shutil.rmtree(home, ignore_errors=True)
        for kind in ("corpus", "states"):
            shutil.copytree(ready / "multirun" / "store" / kind, home / "multirun" / "store" / kind)
        if name == "serial":
            wall = busy = sweep(home, "-m", seeds, *one, "hydra.launcher.workers=1")
        else:
            slurm = ("hydra/launcher=slurm", f"hydra.launcher.workers={asked.workers}", "hydra.launcher.timeout_min=60")
            wall = sweep(home, "-m", seeds, *one, *slurm, "hydra.launcher.poll_s=2")
            busy = job_seconds(home / "multirun" / "main")
        report(name, home / "multirun" / "main", wall_s=wall, busy_s=busy)


if __name__ == "__main__":
    main()
