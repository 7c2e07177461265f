"""`python bench/sweep.py FOLDER [--quick] [--rounds 1] [--workers 2]`: a sweep, one process a point, and the sums.

Ours is `python -m sweep -m …` with so many workers. Theirs is a process for each point, as many at a time, with
ai2-olmo's own model, update and optimizer on the same batches, and lm-eval's HFLM before and after on the same
requests (held-out documents by the model itself). Both start from one stored checkpoint and take turns on the same
cores, with one thread a process; nobody else should be at work on them. Our sums are the seconds of the updates that
were made and of all scoring, divided by the workers. Losses must agree to 3 decimals. The last line is
`ratio X of_sums Y`: their seconds over ours, and our seconds over our sums; the median over the rounds.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.append(sys.path.pop(0))  # this file's folder comes last: its name is that of the package

AXES = {
    "anneal.steps": ("250", "500", "1000"),
    "anneal.shape": ("linear", "sqrt"),
    "anneal.peak_scale": ("0.5", "1"),
    "tasks": ("core8", "core8-olmo1"),
}
QUICK = {"anneal.steps": ("20", "40"), "anneal.shape": ("linear",), "anneal.peak_scale": ("1",), "tasks": AXES["tasks"]}
HFLM_BATCH = 32
AGREE = 5e-4
"""Largest difference of two losses that agree to 3 decimals."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="4 short points with 20 documents a task")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tracking", default="none", help="none, or sqlite: MLflow beside our runs")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        theirs_of_point(asked.folder, json.loads(asked.point))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    axes, limit = (QUICK, 20) if asked.quick else (AXES, 200)
    fixed = [f"tasks.limit={limit}", f"tracking={asked.tracking}"]
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    ready = asked.folder / "ready"
    ours(ready, ["anneal.steps=0", "tasks=loss", "tasks.limit=2", "tracking=none"])  # done, unless keys have changed
    ratios, of_sums = [], []
    for number in range(asked.rounds):
        home = fresh(asked.folder / "ours", ready)
        words = ["-m", *(f"{key}={','.join(values)}" for key, values in axes.items())]
        seconds = ours(home, [*words, *fixed, f"hydra.launcher.workers={asked.workers}"])
        results = outcomes(home)
        assert len(results) == len(points)
        sums = sum(annealing(result) + result["cost"]["scoring_s"] for result in results.values())
        other = fresh(asked.folder / "theirs", ready)
        their_seconds, losses = theirs(other, [{**point, "tasks.limit": str(limit)} for point in points], asked.workers)
        worst = largest_difference(results, losses)
        ratios.append(their_seconds / seconds)
        of_sums.append(seconds / (sums / asked.workers))
        sys.stdout.write(
            f"round {number + 1}: {len(points)} points, {asked.workers} at a time: ours {seconds:.1f} s, sums over the "
            f"workers {sums / asked.workers:.1f} s, one process a point {their_seconds:.1f} s; losses differ by "
            f"{worst:.1e} at most\n"
        )
        sys.stdout.flush()
        if worst > AGREE:
            sys.exit(f"the losses differ by {worst:.2e}: another work was done")
    sys.stdout.write(f"ratio {statistics.median(ratios):.2f} of_sums {statistics.median(of_sums):.2f}\n")


def fresh(home: Path, ready: Path) -> Path:
    """An empty working folder whose store has the corpus and the checkpoint."""
    shutil.rmtree(home, ignore_errors=True)
    for kind in ("corpus", "states"):
        shutil.copytree(ready / "multirun" / "store" / kind, home / "multirun" / "store" / kind)
    return home


def ours(home: Path, words: list[str]) -> float:
    """Seconds of the command."""
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "sweep", *words]
    done = subprocess.run(command, cwd=home, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.monotonic() - began


def outcomes(home: Path) -> dict[str, dict[str, Any]]:
    """A point's own words -> the result of its run."""
    from sweep.tracking import outcome

    ends = (outcome(path.parent) for path in home.glob("multirun/main/*/journal.jsonl"))
    return {name_of(end["result"]["params"]): end["result"] for end in ends if end is not None}


def annealing(result: dict[str, Any]) -> float:
    """Seconds of the updates that the run made itself."""
    cost, steps = result["cost"], result["params"]["anneal.steps"]
    return cost["anneal_s"] * cost["updates_done"] / steps


def name_of(params: dict[str, Any]) -> str:
    return " ".join(
        f"{float(params[key]):g}" if "." in key and key != "anneal.shape" else str(params[key]) for key in AXES
    )


def theirs(home: Path, points: list[dict[str, str]], workers: int) -> tuple[float, dict[str, dict[str, float]]]:
    """Seconds of one process a point, the longest first; and each point's losses."""
    points = sorted(points, key=lambda point: -int(point["anneal.steps"]))
    (home / "points").mkdir(parents=True)
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(functools.partial(their_process, home), points))
    seconds = time.monotonic() - began
    return seconds, {path.stem: json.loads(path.read_text()) for path in (home / "points").glob("*.json")}


def their_process(home: Path, point: dict[str, str]) -> None:
    command = [sys.executable, __file__, str(home), "--point", json.dumps(point)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def largest_difference(ours_: dict[str, dict[str, Any]], theirs_: dict[str, dict[str, float]]) -> float:
    """Between our last training loss and held-out losses, and theirs, over all points."""
    worst = 0.0
    for name, result in ours_.items():
        found = {"train": result["final_loss"]}
        for when in ("before", "after"):
            found[when] = next(
                s["value"] for s in result[when] if s["task"].startswith("heldout") and s["metric"] == "loss"
            )
        worst = max(worst, *(abs(found[key] - theirs_[name][key]) for key in found))
    return worst


def theirs_of_point(home: Path, point: dict[str, str]) -> None:
    """One point, as a script of a few lines around ai2-olmo and lm-eval does it."""
    import torch
    from hflm import hflm, native, theirs_of
    from tokenizers import Tokenizer

    from sweep import data, evaluate
    from sweep.checkpoints import load_state
    from sweep.commands.preview import points
    from sweep.run.memory import Memory
    from sweep.run.prepare import prepare
    from sweep.system.ranks import ALONE
    from sweep.system.store import Store

    torch.set_num_threads(1)
    (config,) = points([f"{key}={value}" for key, value in point.items()])
    prepared = prepare(Store(home / "multirun" / "store"), config, "point", ALONE, Memory())
    state = load_state(prepared.checkpoint.folder, prepared.checkpoint.config, device=torch.device("cpu"))
    scoring, limit = prepared.scoring, int(point["tasks.limit"])
    tokenizer = Tokenizer.from_file(str(scoring.tokenizer))
    requests = [evaluate.load_task(task) for task in config.tasks.tasks().values()]
    assert scoring.heldout is not None
    documents = data.read_heldout(scoring.heldout)
    texts = [documents.tokens[a:b] for a, b in itertools.pairwise(documents.offsets[: limit + 1])]

    def scored() -> float:
        state.model.eval()
        theirs_of(hflm(native(state.model), tokenizer, batch_size=HFLM_BATCH, max_length=scoring.max_length), requests)
        loss = heldout_loss(state.model, texts, scoring.rules.eos_token_id, scoring.max_length)
        state.model.train()
        return loss

    losses = {"before": scored(), "train": train(state, prepared.work), "after": scored()}
    params = {key: point[key] for key in AXES}
    (home / "points" / f"{name_of(params)}.json").write_text(json.dumps(losses))


def train(state: Any, work: Any) -> float:
    """The last loss of the anneal, each update as ai2-olmo's trainer makes it, with the learning rates of the plan."""
    import torch
    import torch.nn.functional as F
    from olmo.optim import build_optimizer

    optimizer = build_optimizer(state.config, state.model)
    optimizer.load_state_dict(state.optimizer.state_dict())
    loss = 0.0
    for step, (batch, rate) in enumerate(zip(work.data.batches(0, len(work.rates)), work.rates, strict=True), 1):
        optimizer.zero_grad(set_to_none=True)
        ids = torch.from_numpy(batch)
        logits = state.model(ids).logits[..., :-1, :].contiguous().view(-1, state.config.model.vocab_size)
        mean = F.cross_entropy(logits, ids[..., 1:].contiguous().view(-1), reduction="sum") / ids.numel()
        mean.backward()
        optimizer.clip_grads_and_collect_metrics(step, collect_param_metrics=False)
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.step()
        loss = mean.item()
    return loss


def heldout_loss(model: Any, texts: list[Any], eos: int, length: int) -> float:
    """Nats a token of the documents, each after an end-of-text token, in windows of `length` tokens."""
    import numpy as np
    import torch

    total, count = 0.0, 0
    with torch.inference_mode():
        for text in texts:
            tokens, done = np.concatenate(([eos], text[:-1] if text[-1] == eos else text)).astype(np.int64), 1
            while done < len(tokens):
                end = min(done + length, len(tokens))
                window = torch.from_numpy(tokens[max(0, end - length - 1) : end])
                logits = model(window[None, :-1]).logits[0, -(end - done) :].log_softmax(-1)
                total -= float(logits.gather(-1, window[-(end - done) :, None]).sum())
                count, done = count + end - done, end
    return total / count


if __name__ == "__main__":
    main()
