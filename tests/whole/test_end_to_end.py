"""The whole path on real input, made small: the commands a user types, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.system.progress import read_progress
from sweep.tracking import outcome, read
from tests.composing import composed
from tests.processes import SWEEP, Script

SMALL = (
    "model.architecture.d_model=16",
    "model.architecture.n_layers=1",
    "model.parameters=36864",
    "model.pretraining.checkpoint_interval=20",
    "checkpoint.step=20",
    "anneal.save_interval=5",
    "tasks.limit=3",
)


@pytest.fixture
def home(corpus: Path, tmp_path: Path) -> Path:
    """An empty working folder whose store has the corpus and nothing else."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "corpus").symlink_to(corpus / "corpus")
    return tmp_path


def variables(home: Path) -> dict[str, str]:
    return {"SWEEP_STORE": str(home / "store"), "SWEEP_TRACKING_DELAY_S": "300"}


def start(home: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        cwd=home,
        env={**os.environ, **variables(home)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def sweep(home: Path, *words: str) -> tuple[int | None, str]:
    """Exit status and all that was printed by a command that nothing happens to."""
    with Script(SWEEP, *words, cwd=home, **variables(home)) as process:
        output = "".join(process.communicate(timeout=500))
    return process.returncode, output


def undisturbed(home: Path, other: Path, *words: str) -> Path:
    """Another home with the same corpus, in which the command ran from beginning to end, one run after another."""
    (other / "store").mkdir()
    (other / "store" / "corpus").symlink_to((home / "store" / "corpus").readlink())
    alone = "hydra.launcher.workers=1"
    code, output = sweep(other, *words, *([alone] if "-m" in words and alone not in words else []))
    assert code == 0, output
    return other


def results(home: Path, name: str = "main") -> dict[str, Any]:
    """What came out, by point, without what two equal runs may differ in."""
    found = {}
    for journal in sorted((home / "multirun" / name).glob("*/journal.jsonl")):
        events = read(journal.parent)
        assert events.outcome is not None, f"{journal} has no outcome"
        result = events.outcome["result"]
        if result is not None:
            del result["cost"]
            losses = [(s["update"], s["lr"], s["loss"], s["grad_norm"]) for s in events.steps]
            found[result["name"]] = (result, losses, events.scores)
    return found


@pytest.mark.slow
def test_a_two_by_two_sweep_and_again(home: Path) -> None:
    words = ("-m", "anneal.steps=4,8", "anneal.shape=linear,sqrt", *SMALL)
    code, output = sweep(home, *words)
    assert code == 0, output
    first = results(home)
    assert len(first) == 4
    for name in first:
        assert name.endswith("limit=3"), "a limit is visible in every name"
    assert "linear 4 limit=3" in output
    assert "make ui" in output
    scores = list((home / "store" / "scores").glob("[!.]*"))
    assert len(scores) == (1 + 4) * 9, "before-scores are computed once for the whole sweep"
    assert not list((home / "store" / "interim").glob("[!.]*"))

    journals = {p: p.stat().st_mtime_ns for p in (home / "multirun" / "main").glob("*/journal.jsonl")}
    code, again = sweep(home, *words)
    assert code == 0
    assert "linear 4 limit=3" in again
    assert journals == {p: p.stat().st_mtime_ns for p in journals}, "a second identical command redoes nothing"

    with sqlite3.connect(home / "multirun" / "mlflow.db") as db:
        runs = dict(db.execute("select name, status from runs"))
        points = db.execute("select count(*) from metrics where key = 'train/loss'").fetchone()[0]
    db.close()
    assert set(runs) == {*first, "main"}
    assert set(runs.values()) == {"FINISHED"}
    assert points == 2 * 4 + 2 * 8


@pytest.mark.slow
def test_one_after_another_in_one_process_gives_the_same_bits(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("-m", "anneal.steps=4,8", "tracking=none", *SMALL)
    assert sweep(home, *words)[0] == 0
    side_by_side = results(home)
    other = tmp_path_factory.mktemp("serial")
    (other / "store").mkdir()
    (other / "store" / "corpus").symlink_to((home / "store" / "corpus").readlink())
    assert sweep(other, *words, "hydra.launcher.workers=1")[0] == 0
    assert results(other) == side_by_side


@pytest.mark.slow
def test_a_worker_gives_each_of_its_runs_the_bits_of_a_process_of_its_own(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Threads, precision and tasks change from run to run in one worker, and what it kept is of use to the next."""
    points = [
        ("anneal.steps=6", "compute.threads=2", "compute.precision=fp32", "tasks=loss"),
        ("anneal.steps=6", "compute.threads=1", "compute.precision=fp32", "tasks=core8"),
        ("anneal.steps=4", "compute.threads=1", "compute.precision=bf16", "tasks=loss"),
        ("anneal.steps=4", "compute.threads=1", "compute.precision=fp32", "tasks=loss"),
    ]
    axes = [
        ",".join([words[0], *(word.partition("=")[2] for word in words[1:])]) for words in zip(*points, strict=True)
    ]
    one = ("hydra.launcher.workers=1", "hydra.sweeper.design=zip", "tracking=none", *SMALL)
    code, output = sweep(home, "-m", *axes, *one)
    assert code == 0, output
    other = tmp_path_factory.mktemp("alone")
    (other / "store").mkdir()
    (other / "store" / "corpus").symlink_to((home / "store" / "corpus").readlink())
    for words in points:
        assert sweep(other, *words, "tracking=none", *SMALL)[0] == 0
    assert len(results(home)) == len(points)
    assert results(home) == results(other)


@pytest.mark.slow
def test_a_second_command_beside_the_first_helps_and_both_end_with_the_whole_table(home: Path) -> None:
    words = ("-m", "anneal.steps=300,310,320,330", "tasks=loss", "hydra.launcher.workers=1", "tracking=none", *SMALL)
    with Script(SWEEP, *words, cwd=home, **variables(home)) as first:
        while not list(home.glob("multirun/main/*330*/journal.jsonl")):
            assert first.poll() is None
            time.sleep(0.02)
        code, output = sweep(home, *words)
        also = "".join(first.communicate(timeout=500))
    assert (first.returncode, code) == (0, 0), also + output
    for table in (also, output):
        assert all(f"linear {steps} " in table for steps in (300, 310, 320, 330)), table
    runs = [read(path.parent) for path in (home / "multirun" / "main").glob("*/journal.jsonl")]
    assert [len(events.attempts) for events in runs] == [1] * 4, "no run was done twice"
    assert len({events.attempts[0]["pid"] for events in runs}) == 2, "both have done some"


@pytest.mark.slow
def test_a_run_that_is_killed_takes_no_other_with_it_and_its_worker_is_replaced(home: Path) -> None:
    words = ("-m", "anneal.steps=300,310,320,330", "tasks=loss", "tracking=none", *SMALL)
    with start(home, *words, "hydra.launcher.workers=2") as process:
        while not (found := list(home.glob("multirun/main/*330*/journal.jsonl"))):
            assert process.poll() is None
            time.sleep(0.02)
        while not (attempts := read(found[0].parent).attempts):
            time.sleep(0.02)
        os.kill(attempts[0]["pid"], signal.SIGKILL)
        output = process.communicate(timeout=500)[0]
    assert process.returncode == 1
    assert "linear 330" in output and "interrupted: its process is gone" in output, output
    assert len(results_of_ended(home)) == 3
    code, output = sweep(home, *words)
    assert code == 0, output
    assert len(results(home)) == 4


def results_of_ended(home: Path) -> list[Path]:
    return [path for path in home.glob("multirun/main/*/journal.jsonl") if outcome(path.parent)]


def stage(home: Path) -> str:
    """What the runs of the main sweep say they are at."""
    reports = (read_progress(path.parent) for path in (home / "multirun" / "main").glob("*/progress.json"))
    return "; ".join(report[0] for report in reports if report)


def finished(home: Path) -> bool:
    return any(
        (outcome(path.parent) or {}).get("status") == "finished" for path in home.glob("multirun/main/*/journal.jsonl")
    )


PHASES: dict[str, Callable[[Path], bool]] = {
    "preparation": lambda home: "pretraining" in stage(home),
    "scoring the checkpoint": lambda home: "scoring before" in stage(home),
    "annealing": lambda home: bool(list(home.glob("store/interim/[!.]*"))),
    "scoring the annealed": lambda home: "scoring after" in stage(home),
    "logging": finished,
}


def workers(home: Path) -> list[int]:
    """Processes whose command line names the sweeps of this home."""
    named = subprocess.run(["pgrep", "-f", str(home / "multirun")], text=True, capture_output=True, check=False)
    return [int(pid) for pid in named.stdout.split()]


def kill_workers(home: Path) -> None:
    """Kill until none is left: one may end by itself before its turn, or have started another one."""
    deadline = time.monotonic() + 60
    while pids := workers(home):
        assert time.monotonic() < deadline, f"still running: {pids}"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_sigkill_in_any_phase_changes_nothing(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    words = ("-m", "anneal.steps=60,120", *SMALL)
    for phase, reached in PHASES.items():
        for stale in (home / "multirun").glob("main/*/progress.json"):
            stale.unlink()
        with start(home, *words) as process:
            while not reached(home):
                assert process.poll() is None, f"ended before {phase}: {process.communicate()[0]}"
                time.sleep(0.002)
            os.killpg(process.pid, signal.SIGKILL)
        kill_workers(home)
    code, output = sweep(home, *words)
    assert code == 0, output
    other = undisturbed(home, tmp_path_factory.mktemp("undisturbed"), *words)
    assert results(home) == results(other)
    assert mlflow_counts(home) == mlflow_counts(other), "one MLflow run a point, no point lost or doubled"


def mlflow_counts(home: Path) -> list[tuple[str, str, int]]:
    """Name, status and number of metric points of every run; how busy the machine was depends on the time it took."""
    with sqlite3.connect(home / "multirun" / "mlflow.db") as db:
        query = (
            "select name, status, (select count(*) from metrics m where m.run_uuid = r.run_uuid"
            " and m.key not like 'system/%') from runs r order by 1"
        )
        rows = db.execute(query).fetchall()
    db.close()
    return rows


@pytest.mark.slow
def test_the_same_command_twice_at_once_runs_once(home: Path) -> None:
    words = ("anneal.steps=30", "tasks=loss", "tracking=none", *SMALL)
    with start(home, *words) as one, start(home, *words) as two:
        outputs = [process.communicate(timeout=300)[0] for process in (one, two)]
    assert [one.returncode, two.returncode] == [0, 0], outputs
    events = read(next((home / "multirun" / "main").glob("*/journal.jsonl")).parent)
    assert (len(events.attempts), len(events.steps), events.damaged) == (1, 30, ())


@pytest.mark.slow
def test_a_finished_run_that_mlflow_missed_is_sent_by_the_same_command(home: Path) -> None:
    words = ("anneal.steps=2", "tasks=loss", *SMALL)
    assert sweep(home, *words, "tracking=none")[0] == 0
    assert sweep(home, *words)[0] == 0
    with sqlite3.connect(home / "multirun" / "mlflow.db") as db:
        runs = dict(db.execute("select name, status from runs"))
    db.close()
    assert runs == {"main": "FINISHED", "tiny-s@20 linear 2 loss limit=3": "FINISHED"}


@pytest.fixture(scope="module")
def after_an_anneal(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one anneal was done."""
    home = tmp_path_factory.mktemp("after_an_anneal")
    (home / "store").mkdir()
    (home / "store" / "corpus").symlink_to(corpus / "corpus")
    assert sweep(home, "anneal.steps=6", "anneal.shape=constant", "tracking=none", *SMALL)[0] == 0
    return home


@pytest.fixture
def annealed(after_an_anneal: Path, home: Path) -> Path:
    """An annealed state: a checkpoint folder at step 26, outside any trajectory; `home` is as after its anneal."""
    shutil.rmtree(home / "store")
    shutil.copytree(after_an_anneal, home, symlinks=True, dirs_exist_ok=True)
    return home / "store" / "states" / next(iter(results(home).values()))[0]["final_state"]


@pytest.mark.slow
def test_an_annealed_state_is_a_checkpoint_like_any_other(home: Path, annealed: Path) -> None:
    made_by = next(iter(results(home).values()))[0]
    local = ("model=local", f"checkpoint.path={annealed}", "tasks.limit=3", "tracking=none", "name=local")
    code, output = sweep(home, *local, "checkpoint.step=26", "anneal.steps=3")
    assert code == 0, output
    further = next(iter(results(home, "local").values()))[0]
    assert (further["position"]["step"], further["position"]["instances"]) == (26, 26)
    assert further["before"] == made_by["after"]


@pytest.mark.slow
def test_a_failing_run_leaves_the_others_alone_and_is_told(home: Path, annealed: Path) -> None:
    local = ("model=local", f"checkpoint.path={annealed}", "tasks=loss", "anneal.steps=3", "name=local")
    code, output = sweep(home, "-m", *local, "checkpoint.step=26,27")
    assert code != 0
    assert "refused: checkpoint.step=27, but the checkpoint itself says 26" in output
    assert "Traceback" not in output
    assert "linear 3 loss (failed)" in output
    assert len(results(home, "local")) == 1
    with sqlite3.connect(home / "multirun" / "mlflow.db") as db:
        statuses = dict(db.execute("select name, status from runs"))
    db.close()
    assert statuses == {
        "local": "FAILED",
        f"local:{annealed.name[:20]}@26 linear 3 loss": "FINISHED",
        f"local:{annealed.name[:20]}@27 linear 3 loss": "FAILED",
    }


@pytest.mark.slow
def test_data_that_is_not_there_is_refused_before_any_scoring(home: Path, annealed: Path) -> None:
    scored = set((home / "store" / "scores").iterdir())
    local = ("model=local", f"checkpoint.path={annealed}", "anneal.steps=3", "tracking=none")
    code, output = sweep(home, *local, "data.paths=[/nowhere/tokens.npy]", "tasks.limit=5")
    assert code != 0
    assert "refused: data.paths=/nowhere/tokens.npy: there is no file" in output
    assert "Traceback" not in output
    assert set((home / "store" / "scores").iterdir()) == scored


@pytest.mark.slow
def test_runs_that_share_their_hold_make_it_once(home: Path) -> None:
    words = ("-m", "anneal.hold_steps=4", "anneal.steps=6,9", "tasks=loss", "tracking=none", *SMALL)
    code, output = sweep(home, *words, "hydra.launcher.workers=1")
    assert code == 0, output
    events = [read(path.parent) for path in (home / "multirun" / "main").glob("*/journal.jsonl")]
    assert [[s["update"] for s in e.steps] for e in events] == [list(range(1, len(e.steps) + 1)) for e in events]
    done = sorted(e.outcome["result"]["cost"]["updates_done"] for e in events if e.outcome)
    assert done == [6 - 4, 9], "the longest goes first, and the other starts from its hold"


@pytest.mark.slow
def test_weights_that_are_not_kept_are_dropped_once_the_outcome_is_written(home: Path) -> None:
    words = ("anneal.steps=3", "anneal.keep=false", "tasks=loss", "tracking=none", *SMALL)
    assert sweep(home, *words)[0] == 0
    [(result, _, _)] = results(home).values()
    assert not (home / "store" / "states" / result["final_state"]).exists()
    assert len(list((home / "store" / "states").glob("[!.]*"))) == 1, "the checkpoint stays"


@pytest.mark.slow
def test_ctrl_c_stops_all_runs_quietly_and_the_same_command_goes_on(home: Path) -> None:
    words = ("-m", "anneal.steps=3000,4000", "tasks=loss", *SMALL)
    with start(home, *words) as process:
        while not list((home / "store").glob("interim/[!.]*")):
            assert process.poll() is None
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
        output = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "interrupted: the same command goes on where this one stopped" in output
    assert "Traceback" not in output
    events = [read(path.parent) for path in (home / "multirun" / "main").glob("*/journal.jsonl")]
    assert {e.outcome["status"] for e in events if e.outcome} == {"interrupted"}
    assert workers(home) == [], "no run goes on alone"


@pytest.mark.slow
def test_the_recorded_command_of_a_standard_sweeps_point_repeats_that_point(home: Path) -> None:
    words = ("experiment=shape", "anneal.shape=linear,sqrt", "anneal.steps=3", "tasks=loss", "tracking=none", *SMALL)
    assert sweep(home, *words)[0] == 0
    journals = {path: path.read_bytes() for path in (home / "multirun" / "shape").glob("*/journal.jsonl")}
    assert len(journals) == 2
    for path in journals:
        python, *again = shlex.split(read(path.parent).attempts[0]["command"])
        assert (python, again[:2]) == ("python", ["-m", "sweep"])
        code, output = sweep(home, *again[2:])
        assert code == 0, output
    assert journals == {path: path.read_bytes() for path in journals}, "done: nothing is redone"
    assert not (home / "multirun" / "main").exists()


@pytest.mark.slow
def test_a_swept_name_makes_two_sweeps(home: Path) -> None:
    words = ("-m", "name=one,two", "anneal.steps=2", "tasks=loss", "tracking=none", *SMALL)
    code, output = sweep(home, *words, "hydra.launcher.workers=1")
    assert code == 0, output
    assert "not started" not in output
    assert len(results(home, "one")) == len(results(home, "two")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny-s", "tiny-m", "tiny-l"])
def test_a_trajectory_and_its_longest_anneal_stay_within_one_epoch_of_the_corpus(corpus: Path, size: str) -> None:
    [summary] = corpus.glob("corpus/*/corpus.json")
    tokens = json.loads(summary.read_text())["train"]["tokens"]
    model = composed(f"model={size}").model
    assert (model.pretraining.steps + 4000) * model.batch_size * model.sequence_length < tokens


@pytest.mark.slow
def test_two_ranks_under_torchrun_give_what_one_process_gives(home: Path) -> None:
    words = ("anneal.steps=8", "model.batch_size=2", "tracking=none", *SMALL)
    code, output = sweep(home, *words, "name=one")
    assert code == 0, output
    shutil.rmtree(home / "store" / "states")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    two = subprocess.run(
        [sys.executable, *launcher, "-m", "sweep", *words, "name=two"],
        cwd=home,
        env={**os.environ, "SWEEP_STORE": str(home / "store"), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("sweep two") == 1, "one rank shows the table"
    (alone,), (shared,) = results(home, "one").values(), results(home, "two").values()
    for (_, lr, loss, norm), step in zip(alone[1], shared[1], strict=True):
        assert step[1:] == pytest.approx((lr, loss, norm), rel=1e-5)


@pytest.mark.slow
def test_optuna_seeks_the_lowest_heldout_loss(home: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is not installed")
    words = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1", "tracking=none")
    words += ("anneal.peak_scale=tag(log,interval(0.2,2))", "anneal.steps=3", "tasks=loss", *SMALL)
    for _ in range(2):  # the second time some or all of it is done
        code, output = sweep(home, *words)
        assert code == 0, output
    best = yaml.safe_load((home / "multirun" / "main" / "optimization_results.yaml").read_text())
    losses = [s["value"] for r, _, _ in results(home).values() for s in r["after"] if s["metric"] == "loss"]
    assert 0 < min(losses) <= best["best_value"] in losses
