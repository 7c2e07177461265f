"""Checks what the analysis promises: intervals that cover, few false alarms, and the time and memory of large sweeps.

python bench/analysis.py [--quick]      # calibration over designs, growth of a made-up sweep, more and more documents
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

# the made-up sweeps are the tests', which are not installed: what follows is imported from the tree
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.analysis.simulated import aliased, bent, coverage, false_alarms, leaks, seeded_coverage
from tests.journals import params

from sweep.commands.report import report_sweeps
from sweep.evaluate.record_files import SCHEMA, write_records
from sweep.sweeps.outcome_table import read_outcomes

DESIGNS = {"1 axis": ((4,), 0), "2 axes": ((4, 3), 0), "2 axes, 2 settings missing": ((4, 3), 2)}
DESIGNS |= {"3 axes": ((3, 3, 2), 0), "3 axes, 4 settings missing": ((3, 3, 2), 4), "4 axes": ((3, 2, 2, 2), 0)}
DESIGNS |= {
    "4 axes, 5 settings missing": ((3, 2, 2, 2), 5),
    "5 axes": ((2,) * 5, 0),
    "5 axes, 8 settings missing": ((2,) * 5, 8),
}
TASKS = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
METRICS = ("acc", "correct_prob", "norm_correct_prob", "margin", "bits_per_byte")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 sweeps a design and 1,000 runs, for 1,000 and 10,000")
    parser.add_argument("--calibration", action="store_true", help="that alone")
    parser.add_argument("--growth", action="store_true", help="that alone")
    parser.add_argument("--documents", action="store_true", help="that alone")
    given = parser.parse_args()
    every = not (given.calibration or given.growth or given.documents)
    if every or given.calibration:
        calibration(100 if given.quick else 1000)
        over_seeds(200 if given.quick else 2000)
    if every or given.growth:
        growth(1000 if given.quick else 10_000)
    if every or given.documents:
        documents((1000, 10_000) if given.quick else (1000, 10_000, 30_000))


def calibration(sweeps: int) -> None:
    say(f"{sweeps} sweeps a design, 1 to 4 seeds a setting | 95 % intervals cover | sweeps with a false alarm")
    for name, (levels, missing) in DESIGNS.items():
        covered = coverage(levels, missing=missing, sweeps=sweeps)
        say(
            f"{name} | {100 * covered:.1f} % | {100 * false_alarms(levels, missing=missing, sweeps=sweeps):.1f} %",
        )
    for simulate, inert, settings in ((bent, {"x1", "x2"}, 16), (bent, {"x1", "x2"}, 32), (aliased, {"x2"}, 9)):
        for effect in (0.0, 1.0, 5.0, 30.0):
            wrong = leaks(simulate, inert, settings=settings, effect=effect, sweeps=sweeps)
            say(f"{simulate.__name__}, {settings} settings, effect {effect:g} | false alarms in {100 * wrong:.1f} %")


def over_seeds(sweeps: int) -> None:
    say(f"{sweeps} settings | seeds | noise of seeds, shared by them | 95 % intervals over seeds and documents cover")
    for seeds in (2, 3, 5, 12):
        for own, shared in ((0.0, 0.0), (0.5, 0.5), (1.0, 0.3), (0.1, 1.0), (3.0, 1.0), (1.0, 3.0)):
            covered = seeded_coverage(seeds=seeds, seed_sd=own, shared_sd=shared, sweeps=sweeps)
            say(f"{seeds} | {own:g}, {shared:g} | {100 * covered:.1f} %")


def growth(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder, "grown")
        write(sweep, runs)
        for step in ("journals read, table made", "table read"):
            started = time.perf_counter()
            table = read_outcomes([sweep])
            say(f"{table.num_rows} runs x {len(TASKS)} tasks: {step}: {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        report_sweeps([sweep], Path(folder, "out"))
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        say(f"analysed and drawn: {time.perf_counter() - started:.1f} s, {most:.1f} GiB at most")


REPORT = """
import resource, sys
from pathlib import Path
from sweep.commands.report import report_sweeps
report_sweeps([Path(sys.argv[1])], Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def documents(numbers: tuple[int, ...]) -> None:
    """Memory of a report that reads the documents of 40 runs x 8 tasks, 4 choices each, and more held out."""
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            for seed, when in enumerate(("before", "after")):
                write_records(records(number, np.random.default_rng(seed)), Path(folder, f"{when}.parquet"))
            sweep = Path(folder, "read")
            write(sweep, 40, with_records=True)
            command = [sys.executable, "-c", REPORT, str(sweep), str(Path(folder, "out"))]
            output = subprocess.run(command, check=True, text=True, capture_output=True).stdout
            say(f"{number} documents a task: {int(output.split()[-1]) / 2**10:.0f} MiB at most")


def records(number: int, rng: np.random.Generator) -> pa.Table:
    """The records of one task."""
    one, choice = np.ones(4 * number, dtype=np.int32), np.tile(np.arange(4, dtype=np.int16), number)
    columns = {"document": np.repeat(np.arange(number, dtype=np.int32), 4), "choice": choice}
    columns |= {"log_probability": rng.normal(-5, 1, 4 * number), "tokens": one, "characters": one, "bytes": one}
    return pa.table({**columns, "gold": choice == 0}, schema=SCHEMA)


def write(sweep: Path, runs: int, *, with_records: bool = False) -> None:
    """Journals as finished runs leave them: 5 checkpoints, lengths, peaks and shapes, as many seeds as it takes."""
    rng = np.random.default_rng(0)
    for i in range(runs):
        place = np.unravel_index(i, (5, 5, 5, 4, -(-runs // 500)))
        step, steps, scale = (int(place[0]) + 1) * 500, 100 * 2 ** int(place[1]), 0.5 * 2 ** (int(place[2]) / 2)
        shape = ("linear", "sqrt", "cosine", "square")[place[3]]
        chosen = {"checkpoint.step": step, "anneal.steps": steps, "anneal.peak_scale": scale, "anneal.shape": shape}
        gain = 0.01 * int(place[1]) - 0.02 * (scale - 1) ** 2
        before, after = ([*_scores(value, rng)] for value in (0.0, gain))
        delta = [{**new, "value": new["value"] - old["value"]} for old, new in zip(before, after, strict=True)]
        scores = {"before": before, "after": after, "delta": delta}
        position = {"step": step, "tokens": step * 1000, "lr": 1e-3}
        cost = {"tokens": steps * 100, "flops": 1.0, "anneal_s": steps * 0.1, "seconds": 3.0}
        result = {"position": position, "cost": cost, "final_state": f"state {i}", "final_loss": 4.0, **scores}
        name = f"toy@{step} {i}"
        events = [
            {"event": "attempt", "time": 0.0, "key": name, "name": name, "params": params(seed=int(place[4]), **chosen)}
            | {"command": f"python -m sweep checkpoint.step={step}"},
            *({"event": "scores", "time": 0.0, "when": when, "scores": listed} for when, listed in scores.items()),
            *(
                {"event": "artifact", "name": f"records/{when}/{task}.parquet", "path": f"../../{when}.parquet"}
                for when in ("before", "after")
                for task in (*TASKS, "heldout")
                if with_records
            ),
            {"event": "outcome", "time": 0.0, "status": "finished", "error": None, "result": result},
        ]
        folder = sweep / f"run-{i}"
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))


def _scores(gain: float, rng: np.random.Generator) -> list[dict[str, object]]:
    known = [(task, metric, 0.3 + gain) for task in TASKS for metric in METRICS]
    known += [("core8", "mean", 0.3 + gain), ("heldout", "loss", 4.5 - gain)]
    return [
        {"task": task, "metric": metric, "value": value + 0.003 * rng.normal(), "stderr": 0.01, "documents": 1000}
        for task, metric, value in known
    ]


if __name__ == "__main__":
    main()
