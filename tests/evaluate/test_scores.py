"""Scores of a task, and of a change, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from sweep.domain.records import Score
from sweep.evaluate import HELDOUT, deltas, scores
from sweep.evaluate.record_files import MORE, SCHEMA


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


def with_column(table: pa.Table, name: str, values: list) -> pa.Table:
    return table.append_column(MORE.field(name), pa.array(values).cast(MORE.field(name).type))


SUBJECTS = with_column(CHOICES.take([0, 1, 5, 6, 7, 8, 2, 3, 4]), "subject", [*["easy"] * 6, *["hard"] * 3])


def test_subjects_are_averaged_first() -> None:
    more = pa.concat_tables(
        [
            SUBJECTS,
            with_column(table((4, 0, -1.0, 1, 1, 1, False), (4, 1, -2.0, 1, 1, 1, True)), "subject", ["hard"] * 2),
        ]
    )
    found = by_metric(scores("mmlu", more))
    assert found["acc"].value == pytest.approx((2 / 3 + 0 / 2) / 2)  # documents 0 and 2 of 0, 2, 3; none of 1 and 4
    assert found["acc_micro"].value == pytest.approx(2 / 5)
    assert found["acc"].stderr == pytest.approx(np.std([1, 1, 0], ddof=1) / math.sqrt(3) / 2)
    assert found["acc"].documents == 5


def test_a_subject_of_one_document_has_no_stderr() -> None:
    with pytest.raises(ValueError, match="mmlu: 1 document"):
        scores("mmlu", SUBJECTS)


def test_with_the_unconditional_column_there_is_acc_uncond() -> None:
    assert "acc_uncond" not in by_metric(scores("piqa", CHOICES))
    found = by_metric(scores("piqa", with_column(CHOICES, "unconditional_log_probability", [-1.0, -1, *[-1.0] * 7])))
    assert found["acc_uncond"].value == found["acc"].value


def test_one_continuation_a_document_is_scored_as_lm_eval_does() -> None:
    columns = table((0, 0, -2.0, 1, 4, 4, True), (1, 0, -4.0, 2, 8, 8, True))
    found = by_metric(scores("lambada", with_column(columns, "greedy", [True, False])))
    assert found["acc"].value == 0.5
    assert found["perplexity"].value == pytest.approx(math.exp(3))
    assert found["perplexity"].stderr == pytest.approx(math.exp(3) * np.std([2, 4], ddof=1) / math.sqrt(2))
    assert found["bits_per_byte"].value == pytest.approx(6 / 12 / math.log(2))


def test_a_perplexity_beyond_numbers_is_infinite() -> None:
    hopeless = table((0, 0, -9000.0, 1, 1, 1, True), (1, 0, -9000.0, 1, 1, 1, True))
    assert by_metric(scores(HELDOUT, hopeless))["perplexity"].value == math.inf


def test_the_delta_of_perplexity_follows_the_loss() -> None:
    after = replaced(HELD, "log_probability", [-5.4, -1.8, -11.2])
    found, old, new = (
        by_metric(of) for of in (deltas(HELDOUT, HELD, after), scores(HELDOUT, HELD), scores(HELDOUT, after))
    )
    assert found["perplexity"].value == pytest.approx(new["perplexity"].value - old["perplexity"].value)
    assert 0 < found["perplexity"].stderr < old["perplexity"].stderr
    assert by_metric(deltas(HELDOUT, HELD, HELD))["perplexity"].stderr == 0


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


def test_one_document_has_no_stderr() -> None:
    with pytest.raises(ValueError, match=r"tasks\.limit"):
        scores("piqa", CHOICES.slice(0, 2))


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_log_probability_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        scores(HELDOUT, replaced(HELD, "log_probability", [-1, value, -1]))
