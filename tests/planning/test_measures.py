"""Which measure of a suite can tell, and the mean bits per byte that older journals lack."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sweep.planning.measures import BITS, MEAN, bits_tasks, leading, why_leading, with_bits_means

PARAMS = {"tasks.limit": 20, "tasks.suites.core8.metrics.piqa": "acc_norm", "tasks.suites.core8.metrics.sciq": "acc"}


def score(task: str, metric: str, value: float, stderr: float = 0.01) -> dict[str, Any]:
    return {"task": task, "metric": metric, "value": value, "stderr": stderr, "documents": 20}


OLD = [
    *(score("piqa:20", "bits_per_byte", 1.5, 0.03), score("sciq:20", "bits_per_byte", 0.5, 0.04)),
    score("core8:20", MEAN, 0.3),
]


@pytest.mark.parametrize(
    ("parameters", "order"),
    [
        ([262_144], (BITS, MEAN)),
        ([370 * 10**6], (BITS, MEAN)),
        ([10**9], (MEAN, BITS)),
        ([7 * 10**9, 262_144], (BITS, MEAN)),
        ([7 * 10**9, None], (BITS, MEAN)),
    ],
)
def test_below_a_billion_parameters_bits_per_byte_leads(parameters: list[int | None], order: tuple[str, str]) -> None:
    assert leading(parameters) == order
    assert why_leading(parameters, 8).startswith({BITS: "Bits per byte", MEAN: "Accuracy"}[order[0]])


def test_an_older_journal_gets_the_mean_from_its_tasks() -> None:
    *same, made = with_bits_means(OLD, PARAMS)
    assert same == OLD
    assert made == score("core8:20", BITS, 1.0, pytest.approx(math.hypot(0.03, 0.04) / 2)) | {"documents": 40}
    assert with_bits_means([*OLD, made], PARAMS) == [*OLD, made], "a journal that has it keeps its own"


def test_an_old_mean_of_bits_per_byte_is_read_as_one_of_which_less_is_better() -> None:
    chosen = PARAMS | {name: "bits_per_byte" for name in PARAMS if "metrics" in name}
    *same, made = with_bits_means(OLD, chosen)
    assert (same, made["metric"], made["value"]) == (OLD[:2], BITS, 1.0)


def test_a_mean_over_fewer_tasks_is_none() -> None:
    assert with_bits_means(OLD[1:], PARAMS) == OLD[1:]


def test_of_two_formats_the_one_counts_whose_answers_are_no_letters() -> None:
    tasks = ["arc_easy-olmes-mc", "arc_easy-olmes-rc", "boolq-olmes-rc", "boolq-olmes-mc", "mine-mc", "mine-rc"]
    assert bits_tasks(tasks) == ("arc_easy-olmes-rc", "boolq-olmes-rc", "mine-mc", "mine-rc")
    assert bits_tasks(["arc_easy-olmes-mc"]) == ("arc_easy-olmes-mc",)
