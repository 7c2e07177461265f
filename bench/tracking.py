"""`python bench/tracking.py [--journals 1000] [--updates 250]`: what tracking costs, and how it grows with a sweep.

A sweep of so many journals goes into an MLflow server by `sweep sync`, beside one-by-one `log_metric` into
the same server by as many writers as do best; its outcomes are read for analysis and its folder is listed. The server's
own count of points is compared with the journals'. The journal's cost is taken of an anneal of tiny-s on one thread.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # this folder comes last: sweep.py in it has the name of the package

import numpy as np
import sqlalchemy
import torch
from hydra import compose, initialize_config_dir

from sweep.checkpoints import fresh_state
from sweep.commands.main import CONF
from sweep.domain.records import to_json
from sweep.run.embedded import embedded_config
from sweep.sweeps.outcome_table import read_outcomes
from sweep.sweeps.points import typed
from sweep.tracking import Journal, mlflow_values, read
from sweep.tracking.mlflow_server import Address, mlflow_server
from sweep.tracking.postgresql import postgresql
from sweep.training.loop import UpdateRules, anneal

TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
METRICS = 30
"""Of a task, about as many as a run has."""
CONFIG = "tracking:\n  name: server\n  enabled: true\n  uri: null\n  experiment: sweep\n"
ONE_BY_ONE_S, WRITERS = 8.0, (1, 4, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--journals", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=250, help="of each run; the shortest of `make sweep`")
    parser.add_argument("--backend", choices=("postgres", "sqlite"), default="postgres", help="of the server")
    parser.add_argument("--check", action="store_true", help="also `sweep sync --check`")
    chosen = parser.parse_args()
    say(journal_cost())
    with tempfile.TemporaryDirectory(prefix="sweep-bench-") as made:
        root = Path(made)
        root.chmod(0o755)  # user postgres has to get in, where we are root
        sweep = root / "multirun" / "grown"
        took = timed(lambda: write_sweep(sweep, chosen.journals, chosen.updates))
        size = sum(path.stat().st_size for path in sweep.glob("*/journal.jsonl"))
        say(f"{chosen.journals} journals of {chosen.updates} updates, {size / 1e6:.0f} MB, written in {took:.0f} s")
        reading(sweep)
        with ExitStack() as running:
            uri, count = server(running, root / "server", chosen.backend)
            sending(sweep, uri, count, check=chosen.check)


def journal_cost(updates: int = 250) -> str:
    """Seconds in `Journal.write` over those of a whole anneal of tiny-s, as the story interleaves them."""
    torch.set_num_threads(1)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = embedded_config(typed(compose("config")).model)
    state, rng = fresh_state(config, device=torch.device("cpu")), np.random.default_rng(0)
    shape = (config.global_train_batch_size, config.model.max_sequence_length)
    batches = [rng.integers(2, config.model.vocab_size, shape) for _ in range(updates)]
    spent, lines = 0.0, 0
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:

        def write(event: str, **fields: Any) -> None:
            nonlocal spent, lines
            spent += timed(lambda: journal.write(event, **fields))
            lines += 1

        started = time.perf_counter()
        write("attempt", **attempt(0, updates))
        write("scores", when="before", scores=scores("before"))
        for record in anneal(
            state.model, state.optimizer, batches, np.full(updates, 1e-3), UpdateRules(max_grad_norm=1.0)
        ):
            write("step", **to_json(record))
        for when in ("after", "delta"):
            write("scores", when=when, scores=scores(when))
        write("outcome", status="finished", error=None, result=None)
        whole = time.perf_counter() - started
    return f"journal: {lines} lines took {spent * 1e3:.1f} ms of an anneal's {whole:.2f} s: {spent / whole:.2%}"


def reading(sweep: Path) -> None:
    """The outcomes for analysis, from all journals and again from the table beside them; the folder's list."""
    first, again = (timed(lambda: read_outcomes([sweep])) for _ in range(2))
    listed = timed(lambda: sum(1 for _ in os.scandir(sweep)))
    words = [sys.executable, "-m", "sweep", "status", sweep.name]
    status = timed(lambda: run(words, cwd=sweep.parents[1]))
    say(f"outcomes: {first:.1f} s from the journals, {again:.2f} s from then on; listing {listed * 1e3:.0f} ms")
    say(f"`sweep status`: {status:.1f} s")


def server(running: ExitStack, folder: Path, backend: str) -> tuple[str, Callable[[], int]]:
    """A server as `sweep server` starts it: its address, and what counts its points past MLflow."""
    folder.mkdir()
    if backend == "postgres":
        database, _ = running.enter_context(postgresql(folder / "postgres"))
    else:
        database = f"sqlite:///{folder / 'mlflow.db'}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place, files = Address("127.0.0.1", port), {"log": folder / "mlflow.log", "settings": {}}
    running.enter_context(mlflow_server(database, folder / "artifacts", place, workers=2, **files))
    engine = sqlalchemy.create_engine(database)

    def count() -> int:
        with engine.connect() as connection:
            return int(connection.execute(sqlalchemy.text("select count(*) from metrics")).scalar_one())

    return f"http://127.0.0.1:{port}", count


def sending(sweep: Path, uri: str, count: Callable[[], int], *, check: bool) -> None:
    slow = {writers: one_by_one(uri, writers) for writers in WRITERS}
    best = max(slow.values())
    say("one by one: " + ", ".join(f"{rate:.0f} points/s by {writers}" for writers, rate in slow.items()))
    before, points = count(), expected(sweep)
    words = [sys.executable, "-m", "sweep", "sync", str(sweep)]
    took, again = (timed(lambda: run(words, MLFLOW_TRACKING_URI=uri)) for _ in range(2))
    there = count() - before
    rate = there / took
    say(f"sync: {there} points in {took:.0f} s, {rate:.0f}/s; once more, nothing to send: {again:.0f} s")
    say(f"journals: {points} points, MLflow {there}: {'the same' if points == there else 'NOT THE SAME'}")
    if check:
        say(f"sync --check: {timed(lambda: run([*words, '--check'], MLFLOW_TRACKING_URI=uri)):.0f} s, no difference")
    say(f"ratio to the fastest one-by-one: {rate / best:.1f}")


def one_by_one(uri: str, writers: int) -> float:
    """Points a second of `log_metric` called in a loop, by so many threads, each into a run of its own."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("one by one")
    number = client.create_experiment("one by one") if experiment is None else experiment.experiment_id
    runs = [client.create_run(number).info.run_id for _ in range(writers)]
    end = time.perf_counter() + ONE_BY_ONE_S

    def write(run_id: str) -> int:
        step = 0
        while time.perf_counter() < end:
            step += 1
            client.log_metric(run_id, "train/loss", 4 - step / 1e4, step=step)
        return step

    started = time.perf_counter()
    with ThreadPoolExecutor(writers) as pool:
        written = sum(pool.map(write, runs))
    return written / (time.perf_counter() - started)


def expected(sweep: Path) -> int:
    """Points of all journals; they differ in their attempts alone, so that one stands for all."""
    folders = [path.parent for path in sorted(sweep.glob("*/journal.jsonl"))]
    events = read(folders[0])
    one = sum(
        1
        for of in (mlflow_values.step_points, mlflow_values.system_points, mlflow_values.score_points)
        for _ in of(events)
    )
    return one * len(folders)


def write_sweep(sweep: Path, count: int, updates: int) -> None:
    """So many finished runs; all but the attempt is the same bytes."""
    template = sweep / "r00000"
    with Journal(template) as journal:
        journal.write("attempt", **attempt(0, updates))
        journal.write("scores", when="before", scores=scores("before"))
        for update in range(1, updates + 1):
            lr = 1e-3 * (1 - update / updates)
            journal.write("step", update=update, lr=lr, loss=4 - update / 1e4, grad_norm=0.5, param_norm=30.0,
                          update_norm=0.1 if update % 10 == 0 else None, tokens=384 * update, seconds=0.02)  # fmt: skip
        for when in ("after", "delta"):
            journal.write("scores", when=when, scores=scores(when))
        journal.write("outcome", status="finished", error=None, result=result(updates))
    rest = journal.path.read_bytes().partition(b"\n")[2]
    for number in range(1, count):
        with Journal(sweep / f"r{number:05}") as journal:
            journal.write("attempt", **attempt(number, updates))
        with journal.path.open("ab") as file:
            file.write(rest)


def attempt(number: int, updates: int) -> dict[str, Any]:
    name = f"tiny-s@2000 linear {updates} seed={number}"
    return {
        "key": f"{number:016x}",
        "name": name,
        "sweep": "grown",
        "params": {"model": "tiny-s", "anneal.steps": updates, "anneal.keep": False, "seed": number}
        | {"anneal.peak_scale": 0.5 + number % 100 / 100, "checkpoint.step": 1000 * (1 + number % 4)}
        | {f"tasks.suites.core8.metrics.{task}": "m0" for task in TASKS},
        "host": "node1",
        "pid": 17,
        "versions": {"torch": torch.__version__},
        "git": None,
        "user": "ada",
        "machine": {"cpu": "a CPU", "cores": 2, "memory_gb": 16.0, "gpus": []},
        "requirements": "torch\n",
        "config_yaml": CONFIG,
        "command": f"python -m sweep seed={number}",
    }


def scores(when: str) -> list[dict[str, Any]]:
    base = {"before": 0.3, "after": 0.4, "delta": 0.1}[when]
    of = [(task, f"m{number}") for task in TASKS for number in range(METRICS)]
    of += [("core8", "mean"), ("heldout", "loss"), ("heldout", "perplexity"), ("heldout", "bits_per_byte")]
    more = {"value": base, "stderr": 0.01, "documents": 1000}
    return [{"task": task, "metric": metric, **more} for task, metric in of]


def result(updates: int) -> dict[str, Any]:
    cost = {"tokens": 384 * updates, "flops": 1e12, "anneal_s": 0.02 * updates, "updates_done": updates, "seconds": 9.0}
    position = {"step": 2000, "tokens": 768000, "lr": 4e-3}
    made = {"final_state": "f" * 32, "final_loss": 3.9, "params": {"model": "tiny-s", "anneal.keep": False}}
    return {"key": "0", "cost": {**cost, "scoring_s": 5.0, "preparing_s": 0.1}, "position": position, **made}


def run(words: list[str], *, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{words} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
