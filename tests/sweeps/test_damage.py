"""Damaged records and journals of finished runs: noticed when they are read, named, and made again where possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sweep.analysis.outcomes import Outcome
from sweep.sweeps.outcome_table import read_outcomes
from sweep.sweeps.outcomes import frame
from sweep.sweeps.paired_documents import paired_documents, without_records
from sweep.sweeps.run_folders import damage_to_mend, is_finished
from sweep.system.store import Store, verified
from sweep.tracking import outcome
from tests.damage import HOW, damage, flip
from tests.journals import TASKS, write_run

RECORDS = "records/after/arc_easy.parquet"


@pytest.fixture
def multirun(tmp_path: Path) -> Path:
    return tmp_path / "multirun"


@pytest.fixture
def run(multirun: Path) -> Path:
    """A finished run whose weights the store has."""
    folder = write_run(multirun / "main", gain=0.25, records=True)
    weights(multirun, folder)
    return folder


def weights(multirun: Path, run: Path) -> None:
    with Store(multirun / "store").writing("states", result(run)["final_state"]) as entry:
        (entry / "model.pt").write_bytes(b"weights")


def result(run: Path) -> dict[str, Any]:
    last = outcome(run)
    assert last is not None
    return last["result"]


def records_of(run: Path) -> Path:
    (line,) = [line for line in (run / "journal.jsonl").read_text().splitlines() if RECORDS in line]
    return run / json.loads(line)["path"]


def pairs(run: Path) -> tuple[pd.DataFrame, int]:
    """The sweep's table, and how many outcomes of its first run have documents."""
    runs = frame(read_outcomes([run.parent]))
    return runs, len(list(paired_documents(runs.iloc[0], None, [Outcome("acc", task) for task in TASKS])))


@pytest.mark.parametrize("how", [*HOW, "gone with its folder"])
@pytest.mark.parametrize("what", ["records.parquet", "entry.json"])
def test_damaged_records_are_left_out_and_named(run: Path, how: str, what: str) -> None:
    runs, sound = pairs(run)
    assert without_records(runs) == []
    damage(records_of(run).with_name(what), how)
    runs, left = pairs(run)
    assert left == sound - 1
    assert without_records(runs) == [runs["name"][0]]


def test_no_flipped_bit_of_a_file_of_records_is_believed(run: Path) -> None:
    file = records_of(run)
    sound = file.read_bytes()
    for bit in range(3, 8 * len(sound), 8 * len(sound) // 60):
        flip(file, bit)
        assert verified(file) is None
        (aside,) = file.parents[1].glob(f".{file.parent.name}.*.damaged")
        aside.rename(file.parent)
        file.write_bytes(sound)
    assert verified(file) == file


def test_a_run_whose_records_were_damaged_is_made_again(run: Path, multirun: Path) -> None:
    key = result(run)["key"]
    assert is_finished(key, run)
    file = records_of(run)
    sound = file.read_bytes()
    flip(file, 99)
    assert verified(file) is None
    assert damage_to_mend(run, result(run)) == f"its {RECORDS} was damaged" and not is_finished(key, run)
    with Store(multirun / "store").writing("scores", file.parent.name) as entry:
        (entry / file.name).write_bytes(sound)
    assert is_finished(key, run)


@pytest.mark.parametrize("how", ["removed", "a folder"])
def test_records_without_a_manifest_are_damaged(run: Path, how: str) -> None:
    damage(records_of(run).with_name("entry.json"), how)
    assert not is_finished(result(run)["key"], run)


def test_records_that_were_freed_are_not_missed(run: Path, multirun: Path) -> None:
    Store(multirun / "store").drop("scores", records_of(run).parent.name)
    assert is_finished(result(run)["key"], run)


def test_a_damaged_line_is_written_again_where_that_takes_no_training(run: Path, multirun: Path) -> None:
    journal = run / "journal.jsonl"
    flip(journal, 8 * journal.read_bytes().index(b'"step"') + 200)
    assert damage_to_mend(run, result(run)) == "line 3 of its journal is damaged"
    Store(multirun / "store").drop("states", result(run)["final_state"])
    assert damage_to_mend(run, result(run)) is None


def test_a_damaged_outcome_is_no_outcome(run: Path) -> None:
    key, journal = result(run)["key"], run / "journal.jsonl"
    flip(journal, 8 * (len(journal.read_bytes()) - 300))
    assert outcome(run) is None and not is_finished(key, run)


def test_damaged_weights_that_were_to_be_kept_are_made_again(run: Path, multirun: Path) -> None:
    state = result(run)["final_state"]
    flip(Store(multirun / "store").path("states", state) / "model.pt", 5)
    assert Store(multirun / "store").get("states", state) is None
    assert damage_to_mend(run, result(run)) == "its weights were damaged"
    weights(multirun, run)
    assert damage_to_mend(run, result(run)) is None
