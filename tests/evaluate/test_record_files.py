"""What a file of records holds, and what is no such file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from sweep.config import Task
from sweep.domain.records import ChoiceRecord
from sweep.evaluate import (
    Likelihoods,
    Pack,
    TaskRequests,
    load_task,
    make_pack,
    read_records,
    records_table,
    scores,
    write_records,
)
from sweep.evaluate.record_files import MORE, SCHEMA

from .conftest import MAX_LENGTH, RULES
from .test_scores import CHOICES


def said(log_probability: np.ndarray) -> Likelihoods:
    return Likelihoods(log_probability=log_probability, greedy=None)


@pytest.fixture(scope="module")
def pack(core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> Pack:
    tasks = [core8["sciq"], core8["boolq"]]
    return make_pack(tasks, tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=2000)


def test_the_columns_are_those_of_a_choice_record() -> None:
    fields = dataclasses.fields(ChoiceRecord)
    assert [field.name for field in fields] == [*SCHEMA.names, *MORE.names]
    assert ChoiceRecord(**CHOICES.to_pylist()[1]).log_probability == -3.0


def test_records_read_back_as_written(tmp_path: Path) -> None:
    write_records(CHOICES, tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet").equals(CHOICES)


def test_metrics_added_later_are_computed_on_old_files(tmp_path: Path) -> None:
    write_records(CHOICES, tmp_path / "records.parquet")  # without the columns that came later
    found = {score.metric for score in scores("piqa", read_records(tmp_path / "records.parquet"))}
    assert {"acc_per_char", "brier_score"} <= found
    assert "acc_uncond" not in found


@pytest.mark.parametrize("change", ["lacks", "has more", "other type"])
def test_a_file_of_something_else_is_refused(change: str, tmp_path: Path) -> None:
    tables = {
        "lacks": CHOICES.drop_columns(["gold"]),
        "has more": CHOICES.append_column("more", CHOICES["gold"]),
        "other type": CHOICES.set_column(0, "document", CHOICES["document"].cast(pa.int64())),
    }
    pq.write_table(tables[change], tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="are not those of records"):
        read_records(tmp_path / "other.parquet")


def test_a_table_holds_the_rows_of_its_task(pack: Pack, core8: dict[str, TaskRequests]) -> None:
    log_probabilities = -np.arange(1.0, 1 + len(pack.task))
    task, first = core8["boolq"], len(core8["sciq"].gold)
    rows = records_table(pack, "boolq", said(log_probabilities))
    assert rows.schema.names == [*SCHEMA.names, "delimiter"]
    assert rows["log_probability"].to_pylist() == log_probabilities[first:].tolist()
    assert rows["gold"].to_pylist() == list(task.gold)
    assert rows["characters"].to_pylist() == list(task.characters)


def test_unconditional_requests_stand_beside_their_choices(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tasks = [
        load_task(
            Task(name=f"{name}-olmo1", protocol="olmo1", limit=3, metric="acc_uncond" if name == "arc_easy" else "acc")
        )
        for name in ("arc_easy", "boolq")
    ]
    pack = make_pack(tasks, tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=2000)
    log_probabilities = -np.arange(1.0, 1 + len(pack.task))
    rows = records_table(pack, "arc_easy-olmo1", said(log_probabilities))
    count = len(tasks[0].gold)
    assert rows["log_probability"].to_pylist() == log_probabilities[:count].tolist()
    assert rows["unconditional_log_probability"].to_pylist() == log_probabilities[count : 2 * count].tolist()
    assert (
        "unconditional_log_probability" not in records_table(pack, "boolq-olmo1", said(log_probabilities)).schema.names
    )
    write_records(rows, tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet").equals(rows)


def test_a_table_needs_a_log_probability_for_each_request(pack: Pack) -> None:
    with pytest.raises(ValueError, match="3 log-probabilities"):
        records_table(pack, "boolq", said(np.zeros(3)))
