"""Which of many runs are done: the table of outcomes says what their journals and the store say."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.sweeps import done_runs, run_folders
from sweep.sweeps.done_runs import finished_runs
from sweep.sweeps.outcome_table import current_outcomes
from sweep.sweeps.run_folders import is_finished
from sweep.system.store import Store
from sweep.tracking import FILE, outcome
from tests.damage import flip
from tests.journals import write_run


def result(run: Path) -> dict[str, Any]:
    last = outcome(run)
    assert last is not None
    return last["result"]  # type: ignore[no-any-return]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    """Folders and keys of two finished runs, whose states and records the store has, and of one that failed."""
    monkeypatch.setattr(done_runs, "FEW", 0)
    sweep, store = tmp_path / "multirun" / "main", Store(tmp_path / "multirun" / "store")
    done = [write_run(sweep, gain=0.1, seed=seed, records=True) for seed in (0, 1)]
    for folder in done:
        with store.writing("states", result(folder)["final_state"]) as entry:
            (entry / "model.pt").write_bytes(b"weights")
    failed = write_run(sweep, gain=0.1, seed=2, status="failed")
    return {folder: result(folder)["key"] for folder in done} | {failed: "a key"}


def in_a_step(run: Path) -> None:
    journal = run / FILE
    journal.write_bytes(journal.read_bytes().replace(b'"loss":4.0', b'"loss":5.0', 1))


def another_key(run: Path) -> None:
    journal = run / FILE
    journal.write_bytes(b"\n".join(journal.read_bytes().split(b"\n")[:-2]) + b"\n")


def records_set_aside(run: Path) -> None:
    kind = run.parents[1] / "store" / "scores"
    for entry in kind.iterdir():
        flip(entry / "records.parquet", 8)
        Store(kind.parent).get("scores", entry.name)


def manifest_lost(run: Path) -> None:
    (run.parents[1] / "store" / "states" / result(run)["final_state"] / "entry.json").unlink()


def states_deleted(run: Path) -> None:
    shutil.rmtree(run.parents[1] / "store" / "states")


CHANGES = (in_a_step, another_key, records_set_aside, manifest_lost, states_deleted, lambda run: shutil.rmtree(run))


@pytest.mark.parametrize("before", [True, False], ids=["damaged before it was read", "damaged since"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_table_says_what_journals_and_store_say(
    runs: dict[Path, str], change: Callable[[Path], None], before: bool
) -> None:
    first = next(iter(runs))
    if before:
        change(first)
    assert finished_runs(runs, renew=True) == {folder for folder, key in runs.items() if is_finished(key, folder)}
    if not before:
        change(first)
        for renew in (False, True):
            true = {folder for folder, key in runs.items() if is_finished(key, folder)}
            assert finished_runs(runs, renew=renew) == true


def test_an_unchanged_journal_is_not_read_again(runs: dict[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = next(iter(runs)).parent
    current_outcomes(sweep)
    read: list[Path] = []
    true = run_folders.outcome
    monkeypatch.setattr(run_folders, "outcome", lambda folder: read.append(folder) or true(folder))
    assert len(finished_runs(runs, renew=False)) == 2
    assert [folder for folder in read if folder.parent == sweep] == [*runs][2:], "the one that isn't done"
    assert finished_runs(dict.fromkeys(runs, "other"), renew=False) == set()


def test_a_look_leaves_nothing_behind(runs: dict[Path, str]) -> None:
    sweep = next(iter(runs)).parent
    before = sorted(sweep.iterdir())
    assert len(finished_runs(runs, renew=False)) == 2
    assert sorted(sweep.iterdir()) == before
