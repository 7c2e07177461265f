"""Faults at random, seeded: after each round the same command, the report and `sync` must tell what they told before.

    python bench/faults.py --faults 200 --seed 1 --corpus STORE

A small sweep is made once without a fault. Then each round damages stored files (a flipped bit, an empty or a cut file,
a file that is gone, a folder in its place) or kills the process that runs or sends, and runs the same commands again.
Scores, updates, paired documents and MLflow must equal those of the undisturbed sweep, and `sync --check` find nothing.
`--corpus` is a store that has the embedded corpus already.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # this folder comes last: sweep.py in it has the name of the package
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from mlflow import MlflowClient
from tests.composing import composed
from tests.damage import HOW, damage, flip
from tests.whole.test_end_to_end import SMALL

from sweep.analysis.outcomes import Outcome
from sweep.commands import sync
from sweep.planning.controls import Point
from sweep.planning.names import run_identity, run_key
from sweep.run.memory import Memory
from sweep.sweeps.closing import close
from sweep.sweeps.one_run import do
from sweep.sweeps.outcome_table import read_outcomes
from sweep.sweeps.outcomes import frame, readable
from sweep.sweeps.paired_documents import paired_documents, without_records
from sweep.sweeps.run_folders import expected_folder
from sweep.tracking import FILE, read

TARGETS = {
    "records": "multirun/store/scores/[!.]*/*",
    "states": "multirun/store/states/[!.]*/*",
    "packs": "multirun/store/packs/[!.]*/*",
    "journals": f"multirun/main/*/{FILE}",
    "what is remembered of MLflow": "multirun/main/*/mlflow.json",
    "the sweep's beginning": "multirun/main/.mlflow.began",
    "the table of outcomes": "multirun/main/*outcomes.*",
}
COMMANDS = 3
"""The same command may be needed so often: what only the report or the closing table reads is found damaged there."""


def configs() -> list[Any]:
    """Two lengths, each with its matched control."""
    words = (*SMALL, "tasks=core8", "tracking=none", "compute.threads=1", "compute.device=cpu")
    return [
        composed(*words, f"anneal={arm}", f"anneal.steps={steps}") for arm in ("constant", "decay") for steps in (5, 12)
    ]


def same_command() -> None:
    """What `python -m sweep -m …` does, in this process, one run after another."""
    for config in configs():
        identity = run_identity(config)
        folder, command = expected_folder(identity).absolute(), f"python -m sweep {identity.name}"
        do(config, folder=folder, command=command, memory=Memory())
    with contextlib.redirect_stdout(io.StringIO()):
        close([Point((), config, run_key(config)) for config in configs()])


def synced(*, check: bool = False) -> tuple[bool, str]:
    """Whether `sweep sync`, or with `check` `sync --check`, succeeds, and what it says."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        grouped, unreadable = sync.parts(sync.run_folders("main"))
        results = [(sync.check if check else sync.sync)(part) for part in grouped]
    return all(results) and not unreadable, said.getvalue()


def told() -> dict[str, Any]:
    """Every number that somebody reads afterwards, but times and costs."""
    table, left_out = readable(read_outcomes([Path("multirun/main")]))
    rows = frame(table).sort_values("name").reset_index(drop=True)
    columns = sorted(c for c in map(str, rows) if c.startswith(("before/", "after/", "delta/", "stderr/")))
    outcomes = [Outcome("acc", column.rpartition("/")[2]) for column in columns if column.startswith("after/acc/")]
    pairs = {
        (row["name"], outcome.name): [side.tolist() for side in pair]
        for _, row in rows.iterrows()
        for outcome, pair in paired_documents(row, None, outcomes)
    }
    steps = {
        folder.name: [(step["update"], step["loss"], step["lr"]) for step in read(folder).steps]
        for folder in sorted(path.parent for path in Path("multirun/main").glob(f"*/{FILE}"))
    }
    named = [*left_out, *without_records(rows)]
    return {"scores": rows[columns].to_dict(), "status": list(rows["status"]), "pairs": pairs, "steps": steps,
            "named": named}  # fmt: skip


def shown() -> dict[str, Any]:
    """What MLflow shows of each run, but times and costs."""
    client = MlflowClient(f"sqlite:///{Path('multirun/mlflow.db').absolute()}")
    experiment = client.get_experiment_by_name("sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {
        f"{run.info.run_name} {run.data.tags.get('sweep.key', '')} {number if twice else ''}": (
            run.info.status,
            {k: v for k, v in run.data.metrics.items() if not k.startswith(("cost/", "system/"))},
        )
        for number, run in enumerate(runs)
        for twice in [sum(r.data.tags.get("sweep.key") == run.data.tags.get("sweep.key") for r in runs) > 1]
    }


def killed(act: Callable[[], Any], after_s: float) -> None:
    """Do something in a process of its own that is killed after some seconds, wherever it is then."""
    if (pid := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            act()
        os._exit(0)
    time.sleep(after_s)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def fault(dice: random.Random) -> str:
    """Damage something; what."""
    kind = dice.choice([*TARGETS, "a run is killed", "a sync is killed"])
    if kind not in TARGETS:
        act = same_command if kind == "a run is killed" else synced
        seconds = dice.uniform(0, 3)
        killed(act, seconds)
        return f"{kind} after {seconds:.2f} s"
    files = sorted(file for file in Path.cwd().glob(TARGETS[kind]) if file.is_file() and file.stat().st_size)
    if not files:
        return f"{kind}: there is none"
    file, how = dice.choice(files), dice.choice([*HOW, "flipped"])
    if how == "flipped":
        flip(file, dice.randrange(8 * file.stat().st_size))
    else:
        damage(file, how)
    return f"{file.relative_to(Path.cwd())} {how}"


def mended(undisturbed: tuple[Any, Any]) -> str | None:
    """Run the same commands; what still differs from the undisturbed sweep, or None."""
    difference: str | None = None
    for _ in range(COMMANDS):
        same_command()
        numbers = told()
        sent, said = synced()
        sound, differences = synced(check=True)
        found = [name for name in numbers if numbers[name] != undisturbed[0][name]]
        if sent and sound and not found and shown() == undisturbed[1]:
            return None
        difference = f"{found} {numbers['named']} {said} {differences} MLflow equal: {shown() == undisturbed[1]}"
    return difference


def main() -> None:
    """Print each round, and exit with 1 if one left a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--a-round", type=int, default=4, help="faults before the same commands run again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="a store that has the embedded corpus")
    chosen = parser.parse_args()
    os.chdir(tempfile.mkdtemp(prefix="faults-"))
    logging.basicConfig(level=logging.ERROR)
    os.environ.pop("SWEEP_STORE", None)
    torch.set_num_threads(1)
    if chosen.corpus is not None:
        Path("multirun/store").mkdir(parents=True)
        Path("multirun/store/corpus").symlink_to((chosen.corpus / "corpus").absolute())
    same_command()
    assert synced()[0] and synced(check=True)[0], synced(check=True)[1]
    undisturbed, dice, left = (told(), shown()), random.Random(chosen.seed), 0
    for number in range(0, chosen.faults, chosen.a_round):
        began, faults = time.monotonic(), [fault(dice) for _ in range(chosen.a_round)]
        difference = mended(undisturbed)
        left += difference is not None
        sys.stdout.write(f"{number + chosen.a_round} ({time.monotonic() - began:.0f} s) {'; '.join(faults)}\n")
        sys.stdout.write(f"  DIFFERS: {difference}\n" if difference else "")
        sys.stdout.flush()
    sys.stdout.write(f"{chosen.faults} faults with seed {chosen.seed}, {left} rounds left a difference; {Path.cwd()}\n")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
