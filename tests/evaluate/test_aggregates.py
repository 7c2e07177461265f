"""One number for a suite."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sweep.analysis.outcomes import sign_of
from sweep.domain.records import Score
from sweep.evaluate import aggregate_deltas, aggregates


def scores(**values: tuple[str, float, float]) -> dict[tuple[str, str], Score]:
    """By task (with `-` for `_`): metric, value, standard error."""
    found = {}
    for name, (metric, value, stderr) in values.items():
        task = name.replace("_", "-")
        found[task, metric] = Score(task=task, metric=metric, value=value, stderr=stderr, documents=10)
    return found


TWO = {"a": "acc", "b": "acc_norm"}
CHANCES = {"a": 0.5, "b": 0.25}


def by_metric(made: list[Score]) -> dict[tuple[str, str], Score]:
    return {(score.task, score.metric): score for score in made}


def test_the_mean_is_plain_and_tasks_independent() -> None:
    made = by_metric(aggregates("core", TWO, scores(a=("acc", 0.6, 0.03), b=("acc_norm", 0.4, 0.04)), CHANCES))
    assert dataclasses.astuple(made["core", "mean"]) == ("core", "mean", pytest.approx(0.5), pytest.approx(0.025), 20)


def test_above_chance_a_guess_is_0_and_all_right_is_1() -> None:
    made = by_metric(aggregates("core", TWO, scores(a=("acc", 0.5, 0.03), b=("acc_norm", 1.0, 0.06)), CHANCES))
    above = made["core", "mean_above_chance"]
    assert above.value == pytest.approx((0 + 1) / 2)
    assert above.stderr == pytest.approx(math.hypot(0.03 / 0.5, 0.06 / 0.75) / 2)


def test_what_is_no_accuracy_has_no_chance() -> None:
    made = aggregates("core", {"a": "brier_score"}, scores(a=("brier_score", 0.5, 0.03)), CHANCES)
    assert [score.metric for score in made] == ["mean"]


def test_bits_per_byte_of_the_answers_are_averaged_whatever_enters_the_mean() -> None:
    found = scores(a=("acc", 0.6, 0.03), b=("acc_norm", 0.4, 0.04))
    assert ("core", "mean_bits_per_byte") not in by_metric(aggregates("core", TWO, found, CHANCES))
    bits = scores(a=("bits_per_byte", 1.5, 0.03), b=("bits_per_byte", 0.5, 0.04))
    made = by_metric(aggregates("core", TWO, found | bits, CHANCES))["core", "mean_bits_per_byte"]
    assert (made.value, made.stderr) == pytest.approx((1.0, 0.025))
    paired = found | scores(a=("bits_per_byte", -0.2, 0.003), b=("bits_per_byte", -0.1, 0.004))
    gained = by_metric(aggregate_deltas("core", TWO, found, found, paired, CHANCES))["core", "mean_bits_per_byte"]
    assert (gained.value, gained.stderr) == pytest.approx((-0.15, 0.0025)), "the error is the paired one"


def test_chosen_bits_per_byte_have_one_mean_of_which_less_is_better() -> None:
    found = scores(a=("bits_per_byte_corr", 1.2, 0.03), b=("bits_per_byte", 0.8, 0.04))
    both = found | scores(a=("bits_per_byte", 9.0, 1.0))
    (made,) = aggregates("code", {"a": "bits_per_byte_corr", "b": "bits_per_byte"}, both, {})
    assert (made.metric, made.value, made.stderr) == ("mean_bits_per_byte", pytest.approx(1), pytest.approx(0.025))
    assert sign_of(made.metric) == -1


FORMATS = {"a-olmes-mc": "acc", "a-olmes-rc": "acc_uncond", "b": "acc"}
FOUR = {"a-olmes-mc": 0.25, "a-olmes-rc": 0.25, "b": 0.25}


def test_the_better_format_counts() -> None:
    found = scores(a_olmes_mc=("acc", 0.3, 0.01), a_olmes_rc=("acc_uncond", 0.5, 0.02), b=("acc", 0.7, 0.0))
    made = by_metric(aggregates("olmes", FORMATS, found, FOUR))
    assert made["olmes", "mean"].value == pytest.approx(0.6)
    assert (made["a-olmes", "best"].value, made["a-olmes", "best"].stderr) == (0.5, 0.02)


def test_formats_are_olmes_alone() -> None:
    found = scores(mine_mc=("acc", 0.3, 0.01), mine_rc=("acc", 0.5, 0.02))
    (mean,) = aggregates("custom", {"mine-mc": "acc", "mine-rc": "acc"}, found, {})
    assert mean.value == pytest.approx(0.4)


def test_a_delta_is_paired_unless_the_better_format_changed() -> None:
    before = scores(a_olmes_mc=("acc", 0.3, 0.03), a_olmes_rc=("acc_uncond", 0.4, 0.04), b=("acc", 0.7, 0.05))
    same = scores(a_olmes_mc=("acc", 0.3, 0.03), a_olmes_rc=("acc_uncond", 0.5, 0.04), b=("acc", 0.8, 0.05))
    paired = scores(a_olmes_mc=("acc", 0.0, 0.001), a_olmes_rc=("acc_uncond", 0.1, 0.002), b=("acc", 0.1, 0.002))
    made = by_metric(aggregate_deltas("olmes", FORMATS, before, same, paired, FOUR))
    assert made["a-olmes", "best"].stderr == 0.002
    assert made["olmes", "mean"].value == pytest.approx(0.1)
    assert made["olmes", "mean"].stderr == pytest.approx(math.hypot(0.002, 0.002) / 2)
    assert made["olmes", "mean_above_chance"].value == pytest.approx(0.1 / 0.75)

    other = scores(a_olmes_mc=("acc", 0.6, 0.03), a_olmes_rc=("acc_uncond", 0.5, 0.04), b=("acc", 0.8, 0.05))
    made = by_metric(aggregate_deltas("olmes", FORMATS, before, other, paired, FOUR))
    assert made["a-olmes", "best"].value == pytest.approx(0.6 - 0.4)
    assert made["a-olmes", "best"].stderr == pytest.approx(math.hypot(0.04, 0.03))


@pytest.mark.parametrize("metrics", [{"a": "acc"}, {"b": "loss"}, {}])
def test_a_missing_score_is_an_error(metrics: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no score of"):
        aggregates("core", metrics, scores(a=("loss", 0.2, 0.03)), {})
