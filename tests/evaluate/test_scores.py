"""Metrics against numbers worked out by hand, and what a table must be like."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from sweep.evaluate import (
    HELDOUT,
    Pack,
    TaskRequests,
    deltas,
    mean,
    prepare,
    read_records,
    records_table,
    scores,
    write_records,
)
from sweep.evaluate.scores import SCHEMA
from sweep.records import ChoiceRecord, Score

from .conftest import EOS, MAX_LENGTH


def table(*rows: tuple[int, int, float, int, int, int, bool]) -> pa.Table:
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA)


CHOICES = table(
    # document, choice, log-probability, tokens, characters, bytes, gold
    (0, 0, -4.0, 2, 8, 8, False),  # per character -.5
    (0, 1, -3.0, 2, 2, 2, True),  # the likeliest; per character -1.5
    (1, 0, -6.0, 2, 12, 16, True),  # per character -.5, the best
    (1, 1, -5.0, 1, 5, 20, False),  # per byte it would be the best
    (1, 2, -5.5, 1, 5, 5, False),
    (2, 0, -2.0, 1, 4, 4, True),  # a tie that the first wins
    (2, 1, -2.0, 1, 4, 4, False),
    (3, 0, -2.0, 1, 4, 4, False),  # a tie that the gold one loses
    (3, 1, -2.0, 1, 4, 4, True),
)
HELD = table((0, 0, -6.0, 3, 9, 10, True), (1, 0, -2.0, 1, 5, 6, True), (2, 0, -12.0, 4, 14, 14, True))


def by_metric(found: tuple[Score, ...]) -> dict[str, Score]:
    return {score.metric: score for score in found}


def test_choice_metrics() -> None:
    found = by_metric(scores("piqa", CHOICES))
    assert found["acc"].value == 0.5  # right in documents 0 and 2
    assert found["acc_norm"].value == 0.5  # right in documents 1 and 2
    bits = [3 / 2, 6 / 16, 2 / 4, 2 / 4]
    assert found["bits_per_byte"].value == pytest.approx(np.mean(bits) / math.log(2))
    assert found["bits_per_byte"].stderr == pytest.approx(np.std(bits, ddof=1) / 2 / math.log(2))
    assert found["acc"].stderr == pytest.approx(math.sqrt((4 * 0.25) / 3) / 2)
    assert {(score.task, score.documents) for score in found.values()} == {("piqa", 4)}


def test_rows_may_come_in_any_order() -> None:
    shuffled = CHOICES.take([8, 3, 0, 5, 7, 1, 6, 2, 4])
    assert scores("piqa", shuffled) == scores("piqa", CHOICES)


def test_heldout_metrics_are_ratios_of_totals() -> None:
    found = by_metric(scores(HELDOUT, HELD))
    assert found["loss"].value == pytest.approx(20 / 8)
    assert found["bits_per_byte"].value == pytest.approx(20 / 30 / math.log(2))
    residual = np.array([6, 2, 12]) - 2.5 * np.array([3, 1, 4])
    assert found["loss"].stderr == pytest.approx(math.sqrt(3 / 2 * (residual**2).sum()) / 8)
    assert found["loss"].documents == 3


def test_the_stderr_of_a_ratio_is_that_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)

    def draw(documents: int) -> pa.Table:
        tokens = rng.integers(5, 50, documents)
        nats = tokens * rng.normal(3, 0.3, documents)
        return table(*((i, 0, -n, t, 1, 1, True) for i, (n, t) in enumerate(zip(nats, tokens, strict=True))))

    samples = [by_metric(scores(HELDOUT, draw(100)))["loss"] for _ in range(400)]
    spread = np.std([sample.value for sample in samples], ddof=1)
    assert np.mean([sample.stderr for sample in samples]) == pytest.approx(spread, rel=0.1)


def replaced(old: pa.Table, column: str, values: list) -> pa.Table:
    index = SCHEMA.get_field_index(column)
    return old.set_column(index, SCHEMA.field(index), pa.array(values, SCHEMA.field(index).type))


def test_deltas_are_paired() -> None:
    after = replaced(CHOICES, "log_probability", [-4, -5, -4, -5, -5.5, -2, -2, -2, -1])
    found = by_metric(deltas("piqa", CHOICES, after))
    before_of, after_of = by_metric(scores("piqa", CHOICES)), by_metric(scores("piqa", after))
    for metric, delta in found.items():
        assert delta.value == pytest.approx(after_of[metric].value - before_of[metric].value)
    change = [-1, 1, 0, 1]  # document 0 is lost, 1 and 3 are won
    assert found["acc"].value == pytest.approx(np.mean(change))
    assert found["acc"].stderr == pytest.approx(np.std(change, ddof=1) / 2)


def test_heldout_deltas_have_the_stderr_of_the_difference() -> None:
    after = replaced(HELD, "log_probability", [-5.4, -1.8, -11.2])
    loss = by_metric(deltas(HELDOUT, HELD, after))["loss"]
    assert loss.value == pytest.approx(-1.6 / 8)
    # the same gain per token in every document: almost no spread, whatever the documents' own losses
    residual = np.array([-0.6, -0.2, -0.8]) + 0.2 * np.array([3, 1, 4])
    assert loss.stderr == pytest.approx(math.sqrt(3 / 2 * (residual**2).sum()) / 8, abs=1e-12)


@pytest.mark.parametrize("column", ["document", "choice", "tokens", "characters", "bytes", "gold"])
def test_deltas_refuse_other_documents(column: str) -> None:
    values = HELD[column].to_pylist()
    other = replaced(HELD, column, [not values[0] if column == "gold" else values[0] + 7, *values[1:]])
    with pytest.raises(ValueError, match="not of the same documents"):
        deltas(HELDOUT, HELD, other)
    with pytest.raises(ValueError, match="not of the same documents"):
        deltas(HELDOUT, HELD, HELD.slice(1))


def test_mean_over_tasks() -> None:
    found = [
        Score(task="a", metric="acc", value=0.2, stderr=0.03, documents=10),
        Score(task="a", metric="acc_norm", value=0.9, stderr=0.5, documents=10),
        Score(task="b", metric="acc_norm", value=0.4, stderr=0.04, documents=30),
    ]
    core = mean(found, {"a": "acc", "b": "acc_norm"}, "core")
    assert dataclasses.astuple(core) == ("core", "mean", pytest.approx(0.3), pytest.approx(0.025), 40)


@pytest.mark.parametrize("metrics", [{"a": "acc"}, {"b": "loss"}, {}])
def test_mean_refuses_a_missing_score(metrics: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="core"):
        mean([Score(task="a", metric="loss", value=0.2, stderr=0.03, documents=10)], metrics, "core")


def test_one_document_has_no_stderr() -> None:
    with pytest.raises(ValueError, match=r"tasks\.limit"):
        scores("piqa", CHOICES.slice(0, 2))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        scores(HELDOUT, replaced(HELD, "log_probability", [-1, value, -1]))


@pytest.mark.parametrize("gold", [[False] * 9, [True] * 9])
def test_documents_need_one_gold_choice(gold: list[bool]) -> None:
    with pytest.raises(ValueError, match="one of them gold"):
        scores("piqa", replaced(CHOICES, "gold", gold))


def test_a_choice_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each choice once"):
        scores("piqa", replaced(CHOICES, "choice", [0, 0, 0, 1, 2, 0, 1, 0, 1]))


def test_the_columns_are_those_of_a_choice_record() -> None:
    assert SCHEMA.names == [field.name for field in dataclasses.fields(ChoiceRecord)]
    assert ChoiceRecord(**CHOICES.to_pylist()[1]).log_probability == -3.0


def test_records_read_back_as_written(tmp_path: Path) -> None:
    write_records(CHOICES, tmp_path / "records.parquet")
    assert read_records(tmp_path / "records.parquet").equals(CHOICES)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(CHOICES.drop_columns(["gold"]), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="are not those of records"):
        read_records(tmp_path / "other.parquet")


@pytest.fixture(scope="module")
def pack(core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> Pack:
    tasks = [core8["sciq"], core8["boolq"]]
    return prepare(tasks, tokenizer, eos_token_id=EOS, max_length=MAX_LENGTH, token_budget=2000)


def test_a_table_holds_the_rows_of_its_task(pack: Pack, core8: dict[str, TaskRequests]) -> None:
    log_probabilities = -np.arange(1.0, 1 + len(pack.task))
    task, first = core8["boolq"], len(core8["sciq"].gold)
    rows = records_table(pack, "boolq", log_probabilities)
    assert rows.schema == SCHEMA
    assert rows["log_probability"].to_pylist() == log_probabilities[first:].tolist()
    assert rows["gold"].to_pylist() == list(task.gold)
    assert rows["characters"].to_pylist() == list(task.characters)


def test_a_table_needs_a_log_probability_for_each_request(pack: Pack) -> None:
    with pytest.raises(ValueError, match="3 log-probabilities"):
        records_table(pack, "boolq", np.zeros(3))
