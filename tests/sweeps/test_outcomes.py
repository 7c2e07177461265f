"""The table of a sweep's outcomes: what it reads, when it reads again, and what it survives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.domain.errors import Refusal
from sweep.sweeps import outcome_table
from sweep.sweeps.outcome_table import SUM, TABLE, read_outcomes
from sweep.sweeps.outcomes import frame, readable
from sweep.sweeps.run_folders import sweep_folder
from sweep.system.lease import run_lease
from tests.damage import flipped
from tests.journals import write_run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "steps"
    for steps in (10, 20):
        write_run(folder, gain=steps / 1000, **{"anneal.steps": steps})
    return folder


def test_a_row_a_run_with_params_scores_and_cost(sweep: Path) -> None:
    runs = frame(read_outcomes([sweep])).sort_values("anneal.steps")
    assert list(runs["anneal.steps"]) == [10, 20] and set(runs["status"]) == {"finished"}
    assert list(runs["delta/loss/heldout"].round(3)) == [-0.01, -0.02]
    assert list(runs["stderr/after/acc/arc_easy"]) == [0.01, 0.01]
    assert list(runs["cost/tokens"]) == [1000, 2000] and set(runs["checkpoint_name"]) == {"toy@100"}
    assert set(runs["anneal.peak_lr"]) == {"null"}


def test_journals_that_did_not_change_are_not_read_again(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_outcomes([sweep])
    read: list[Path] = []
    true = outcome_table.read
    monkeypatch.setattr(outcome_table, "read", lambda folder, **how: read.append(folder) or true(folder, **how))
    assert read_outcomes([sweep]).equals(first) and read == []
    new = write_run(sweep, gain=0.03, **{"anneal.steps": 30})
    assert len(read_outcomes([sweep])) == 3 and read == [new]


def test_a_run_that_went_on_is_read_again_and_one_that_is_gone_is_dropped(sweep: Path) -> None:
    running = write_run(sweep, gain=0.0, status="running", **{"anneal.steps": 30})
    assert sorted(frame(read_outcomes([sweep]))["status"]) == ["finished", "finished", "interrupted"]
    with run_lease(running).waited_for("it"):
        assert sorted(frame(read_outcomes([sweep]))["status"]) == ["finished", "finished", "running"]
    write_run(sweep, gain=0.03, **{"anneal.steps": 30})
    assert set(frame(read_outcomes([sweep]))["status"]) == {"finished"}
    (running / "journal.jsonl").unlink()
    assert len(read_outcomes([sweep])) == 2


@pytest.mark.parametrize("damage", [b"", b"PAR1 not a table", None])
def test_a_damaged_table_is_made_anew(sweep: Path, damage: bytes | None) -> None:
    first = read_outcomes([sweep])
    table = sweep / TABLE
    table.write_bytes(table.read_bytes()[:-20] if damage is None else damage)
    assert read_outcomes([sweep]).equals(first)
    assert {path.name for path in sweep.iterdir() if path.is_file()} == {TABLE, SUM}


def test_a_flipped_bit_of_the_table_never_becomes_a_number(sweep: Path) -> None:
    first = read_outcomes([sweep])
    table, sound = sweep / TABLE, (sweep / TABLE).read_bytes()
    for bit in range(5, 8 * len(sound), 8 * len(sound) // 40):
        table.write_bytes(flipped(sound, bit))
        assert read_outcomes([sweep]).equals(first)


def test_a_folder_in_the_place_of_the_table_is_set_aside(sweep: Path) -> None:
    first = read_outcomes([sweep])
    (sweep / TABLE).unlink()
    (sweep / TABLE / "inner").mkdir(parents=True)
    assert read_outcomes([sweep]).equals(first)
    assert (sweep / TABLE).is_file() and len([*sweep.glob(f".{TABLE}*.damaged")]) == 1


def test_a_run_that_can_not_be_read_is_left_out_and_named(sweep: Path) -> None:
    unreadable = sorted(path.parent for path in sweep.glob("*/journal.jsonl"))[0]
    (unreadable / "journal.jsonl").write_bytes(b"\0" * 100 + b"\n")
    table, left_out = readable(read_outcomes([sweep]))
    assert len(table) == 1 and len(left_out) == 1 and unreadable.name in left_out[0]


def test_a_table_of_other_columns_is_made_anew(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_outcomes([sweep])
    monkeypatch.setattr(outcome_table, "REVISION", b"another")
    assert read_outcomes([sweep]).equals(first)


def test_where_nothing_may_be_written_it_is_read_all_the_same(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(read_outcomes([sweep])) == 2
    assert [path.name for path in sweep.iterdir() if path.is_file()] == []


def test_failures_and_their_errors_are_rows(sweep: Path) -> None:
    write_run(sweep, gain=0.0, status="failed", **{"anneal.steps": 30})
    runs = frame(read_outcomes([sweep]))
    failed = runs[runs["status"] == "failed"].iloc[0]
    assert failed["error"] == "ValueError: a loss is not finite" and failed["before/loss/heldout"] == 4.5


def test_one_state_scored_twice_is_one_run(sweep: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    write_run(again, gain=0.01, **{"anneal.steps": 10})
    assert len(frame(read_outcomes([sweep, again]))) == 2


def test_what_is_no_sweep_is_refused(tmp_path: Path, sweep: Path) -> None:
    assert sweep_folder("steps", tmp_path) == sweep
    with pytest.raises(Refusal, match=r"SWEEP=stepz.*did you mean steps"):
        sweep_folder("stepz", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="holds no run"):
        read_outcomes([tmp_path / "empty"])
