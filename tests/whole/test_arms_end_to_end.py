"""Every arm of a small sweep through the door: which runs there are, what they cost, and that each repeats alone."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.tracking import read
from tests.whole.test_end_to_end import SMALL, home, results, start, sweep, undisturbed

__all__ = ["home"]

WORDS = ("anneal.steps=4,8", "controls=all", "checkpoint.step=80", "tasks=loss")
TINY = tuple(word for word in SMALL if not word.startswith("checkpoint.step"))


def events_of(home: Path, name: str = "main") -> dict[str, tuple[Path, Any]]:
    """Name -> folder and journal of every run of a sweep."""
    folders = [path.parent for path in sorted((home / "multirun" / name).glob("*/journal.jsonl"))]
    return {events.attempts[0]["name"]: (folder, events) for folder in folders for events in [read(folder)]}


@pytest.mark.slow
def test_the_switch_adds_every_arm_once_and_each_repeats_alone(home: Path) -> None:
    code, output = sweep(home, "-m", *WORDS, *TINY, "hydra.launcher.workers=1")
    assert code == 0, output
    runs = events_of(home)
    at = "tiny-s@80"
    assert {name.removesuffix(" loss limit=3") for name in runs} == {
        f"{at} none", f"{at} merge uniform last=4", f"{at} constant 4", f"{at} constant 8", f"{at} linear 4",
        f"{at} linear 8",
    }  # fmt: skip
    done = {name: events.outcome["result"] for name, (_, events) in runs.items()}
    by_arm = {(r["params"]["arm"], r["params"]["anneal.steps"]): r for r in done.values()}

    none, merge = by_arm["none", 0], by_arm["merge", 0]
    assert none["before"] == none["after"]
    assert (none["delta"], none["final_loss"], none["cost"]["tokens"]) == ([], None, 0)
    assert none["final_state"] in {path.name for path in (home / "store" / "states").iterdir()}
    assert (merge["cost"]["tokens"], merge["cost"]["flops"], merge["final_loss"]) == (0, 0, None)
    facts = json.loads((home / "store" / "states" / merge["final_state"] / "merge.json").read_text())
    assert facts["steps"] == [20, 40, 60, 80]
    assert {s["metric"] for s in merge["delta"]} == {s["metric"] for s in merge["after"]}
    assert by_arm["constant", 4]["cost"]["updates_done"] == 4
    assert by_arm["constant", 8]["cost"]["updates_done"] == 4, "the longer one starts where the shorter one ended"
    assert len({json.dumps(r["before"]) for r in done.values()}) == 1, "one checkpoint, scored once"
    assert len(list((home / "store" / "scores").glob("[!.]*"))) == 1 + 5
    assert output.count("vs constant") == 2, "the loss's column and the caption"

    with sqlite3.connect(home / "multirun" / "mlflow.db") as db:
        arms = [arm for (arm,) in db.execute("select value from params where key = 'arm' order by 1")]
        statuses = {status for (status,) in db.execute("select status from runs")}
    db.close()
    assert arms == ["constant", "constant", "decay", "decay", "merge", "none"]
    assert statuses == {"FINISHED"}

    journals = {folder / "journal.jsonl": (folder / "journal.jsonl").read_bytes() for folder, _ in runs.values()}
    for number, (folder, events) in enumerate(runs.values()):
        overrides = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
        command = shlex.split(events.attempts[0]["command"])[3:]
        code, output = sweep(home, *(command if number % 2 else overrides), "tracking=none")
        assert code == 0, output
    assert sweep(home, "anneal=none", "checkpoint.step=80", "tasks=loss", "tracking=none", *TINY)[0] == 0
    assert sweep(home, "anneal=merge", "checkpoint.step=80", "tasks=loss", "tracking=none", *TINY)[0] == 0
    assert journals == {path: path.read_bytes() for path in (home / "multirun" / "main").glob("*/journal.jsonl")}


@pytest.mark.slow
def test_an_embedded_model_can_be_averaged_between_its_checkpoints(home: Path) -> None:
    words = ("anneal=merge", "checkpoint.step=40", "tasks=loss", "tracking=none", *TINY)
    closer = ("anneal.merge.interval=5", "anneal.merge.weights=sqrt")
    assert sweep(home, *words, *closer, "anneal.merge.last=3")[0] == 0
    [(result, steps, _)] = results(home).values()
    facts = json.loads((home / "store" / "states" / result["final_state"] / "merge.json").read_text())
    assert (facts["steps"], facts["weights"]) == ([30, 35, 40], "sqrt")
    assert steps == []


@pytest.mark.slow
def test_a_merge_killed_while_its_checkpoints_are_made_goes_on(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = ("anneal=merge", "checkpoint.step=100", "anneal.merge.interval=7", "tasks=loss", "tracking=none", *TINY)
    with start(home, *words) as process:
        while len(list(home.glob("store/states/[!.]*"))) < 6:
            assert process.poll() is None, process.communicate()[0]
        os.killpg(process.pid, signal.SIGKILL)
    code, output = sweep(home, *words)
    assert code == 0, output
    assert results(home) == results(undisturbed(home, tmp_path_factory.mktemp("undisturbed"), *words))


@pytest.mark.slow
def test_hydras_own_launcher_gets_the_controls_too(home: Path) -> None:
    words = ("-m", "hydra/launcher=basic", "anneal.steps=2", "controls=[none,constant]", "tasks=loss", *SMALL)
    code, output = sweep(home, *words, "tracking=none")
    assert code == 0, output
    assert {result["params"]["arm"] for result, _, _ in results(home).values()} == {"none", "constant", "decay"}


@pytest.mark.slow
def test_an_average_that_is_not_kept_is_dropped_and_the_checkpoint_stays(home: Path) -> None:
    words = ("-m", "anneal=none,merge", "anneal.keep=false", "checkpoint.step=80", "tasks=loss", "tracking=none")
    code, output = sweep(home, *words, *TINY)
    assert code == 0, output
    states = {path.name for path in (home / "store" / "states").glob("[!.]*")}
    by_arm = {result["params"]["arm"]: result["final_state"] for result, _, _ in results(home).values()}
    assert by_arm["merge"] not in states
    assert by_arm["none"] in states
