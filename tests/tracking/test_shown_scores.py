"""Of about 900 scores a run, MLflow shows those that a mean or a person reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.tracking import Events, Journal, mlflow_values, read

from .conftest import ATTEMPT, score


def names(run: Callable[..., Path], scores: list[dict[str, Any]], **params: str) -> list[str]:
    chosen = {f"tasks.suites.{suite}": metric for suite, metric in params.items()}
    folder = run(status=None, params={"model": "tiny-s", **chosen})
    with Journal(folder) as journal:
        journal.write("scores", when="before", scores=scores)
    found: Events = read(folder)
    return [point.name for point in mlflow_values.score_points(found) if not point.name.startswith("stderr/")]


def test_a_task_has_the_metric_that_enters_its_mean(run: Callable[..., Path]) -> None:
    scores = [score("arc_easy", metric, 0.3) for metric in ("acc", "acc_norm", "margin")]
    scores += [score("core8", "mean", 0.3), score("core8", "mean_above_chance", 0.1)]
    scores += [score("heldout", metric, 4.0) for metric in ("loss", "perplexity", "bits_per_byte", "margin")]
    found = names(run, scores, **{"core8.metrics.arc_easy": "acc_norm"})
    assert found == [
        "before/mean",
        "before/mean_above_chance",
        "before/heldout.loss",
        "before/heldout.perplexity",
        "before/heldout.bits_per_byte",
        "before/arc_easy.acc_norm",
    ]


def test_the_mean_that_can_tell_comes_first_and_is_made_for_an_older_journal(run: Callable[..., Path]) -> None:
    scores = [score("arc_easy", "acc", 0.3), score("arc_easy", "bits_per_byte", 1.2), score("core8", "mean", 0.3)]
    found = names(run, scores, **{"core8.metrics.arc_easy": "acc"})
    assert found == ["before/mean_bits_per_byte", "before/mean", "before/arc_easy.acc"]


def test_scores_have_the_digits_that_their_error_allows(run: Callable[..., Path]) -> None:
    folder = run(status=None)
    with Journal(folder) as journal:
        journal.write("scores", when="before", scores=[score("core8", "mean", 1 / 3) | {"stderr": 0.00543}])
    points = {point.name: point.value for point in mlflow_values.score_points(read(folder))}
    assert points == {"before/mean": 0.3333, "stderr/before/mean": 0.0054}
    exact = {"before/mean": 1 / 3, "stderr/before/mean": 0.00543}
    assert {name: mlflow_values.to_known_digits(name, value, exact) for name, value in exact.items()} == points


def test_a_limit_stays_in_the_names(run: Callable[..., Path]) -> None:
    scores = [score("arc_easy:20", "acc", 0.3), score("core8:20", "mean", 0.3), score("heldout:20", "loss", 4.0)]
    found = names(run, scores, **{"core8.metrics.arc_easy": "acc"})
    assert found == ["before/core8:20.mean", "before/heldout:20.loss", "before/arc_easy:20.acc"]


def test_two_suites_have_two_means(run: Callable[..., Path]) -> None:
    scores = [score("core8", "mean", 0.3), score("mmlu", "mean", 0.25)]
    assert names(run, scores, **{"mmlu.metrics.mmlu": "acc"}) == ["before/core8.mean", "before/mmlu.mean"]


def test_every_shown_score_has_its_standard_error(run: Callable[..., Path]) -> None:
    points = {point.name for point in mlflow_values.score_points(read(run(params=ATTEMPT["params"])))}
    shown = {name for name in points if name.startswith(("before/", "after/", "delta/"))}
    assert {f"stderr/{name}" for name in shown} <= points
