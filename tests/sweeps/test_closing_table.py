"""The table at the end of a sweep: what a row says, and that an anneal stands beside its constant control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sweep.config import RunConfig
from sweep.planning.names import run_name
from sweep.sweeps import closing_table
from sweep.sweeps.closing_table import draw, row
from tests.composing import composed


def score(task: str, metric: str, value: float, stderr: float = 0.01) -> dict[str, Any]:
    return {"task": task, "metric": metric, "value": value, "stderr": stderr}


def read_as(scores: dict[str, list[dict[str, Any]]], status: str = "running") -> dict[str, Any]:
    """A row of the table of outcomes."""
    columns = {f"{when}/{s['metric']}/{s['task']}": s for when, listed in scores.items() for s in listed}
    values = {column: s["value"] for column, s in columns.items()}
    return values | {f"stderr/{column}": s["stderr"] for column, s in columns.items()} | {"status": status}


def outcome(*whens: str) -> dict[str, Any]:
    """A finished run that moved the accuracy by 0.1, the bits per byte by -0.25 and the loss by -0.5."""
    values = {"before": (0.4, 2.0, 5.0), "after": (0.5, 1.75, 4.5), "delta": (0.1, -0.25, -0.5)}
    of = (("core8", "mean"), ("core8", "mean_bits_per_byte"), ("heldout", "loss"))
    scores = {w: [score(*name, value) for name, value in zip(of, values[w], strict=True)] for w in whens}
    return read_as(scores, "finished") | {"cost/tokens": 96_000, "cost/seconds": 7.0}


def shown_row(
    config: RunConfig, known: dict[str, Any] | None, beyond: Sequence[dict[str, Any]] = ()
) -> closing_table.Row:
    return row(config.tasks, config.model.parameters, run_name(config), known, beyond)


def test_an_anneal_shows_what_it_did_beyond_its_constant_control() -> None:
    config = composed("anneal.steps=250")
    beyond = [score("core8", "mean", 0.02), score("core8", "mean_bits_per_byte", -0.125, 0.0025)]
    beyond += [score("heldout", "loss", -0.25)]
    shown = shown_row(config, outcome("before", "after", "delta"), beyond)
    assert {of: figures["vs constant"] for of, figures in shown.figures.items()} == {
        ("core8", "mean"): (0.02, 0.01),
        ("core8", "mean_bits_per_byte"): (-0.125, 0.0025),
        ("heldout", "loss"): (-0.25, 0.01),
    }
    text = draw("main", [shown])
    assert text.count("vs constant") == 4, "three columns and the caption"
    cells = ("2.000 ± 0.010", "-0.250 ± 0.010", "-0.1250 ± 0.0025", "50.0 ± 1.0", "+10.0 ± 1.0", "-0.500 ± 0.010")
    for cell in (*cells, "0.10M"):
        assert cell in text


@pytest.mark.parametrize(
    ("parameters", "first", "why"),
    [
        (262_144, "bits per byte before", "with 0.26 million parameters, the accuracy of 8 tasks is chance or near it"),
        (7 * 10**9, "accuracy before", "from a billion parameters on"),
        (None, "bits per byte before", "the size of this one is not stated"),
    ],
)
def test_the_measure_that_can_tell_at_the_models_size_comes_first(parameters: int | None, first: str, why: str) -> None:
    config = composed("anneal.steps=250")
    shown = shown_row(config, outcome("before", "after", "delta"))
    text = draw("main", [replace(shown, parameters=parameters)])
    assert first in text and text.count("before") == 1 and why in text


def test_without_a_constant_control_there_is_no_such_column() -> None:
    config = composed("anneal.steps=250")
    assert "vs constant" not in draw("main", [shown_row(config, outcome("before", "after", "delta"))])


@pytest.mark.parametrize(("option", "named"), [("none", "none"), ("merge", "merge uniform last=4")])
def test_an_arm_without_updates_is_named_by_what_it_is(option: str, named: str) -> None:
    config = composed(f"anneal={option}")
    shown = shown_row(config, outcome("before", "after"))
    assert (shown.checkpoint, shown.anneal) == ("tiny-s@2000", named)
    assert shown.figures["core8", "mean"]["delta"] is None, "nothing was done, so there is no difference to show"


def test_every_suite_of_a_union_has_its_mean_and_loss_alone_has_none() -> None:
    both = composed("tasks=[core8,mmlu]", "tasks.heldout=false")
    scores = {"before": [score("core8", "mean", 0.4), score("mmlu", "mean", 0.25)]}
    text = draw("main", [shown_row(both, read_as(scores))])
    assert "core8 accuracy before" in text and "40.0 ± 1.0" in text
    assert "mmlu accuracy after" in text and "bits per byte" not in text
    assert "held-out loss" not in text
    loss = composed("tasks=loss")
    text = draw("main", [shown_row(loss, outcome("before", "after", "delta"))])
    assert "held-out loss before" in text and "bits per byte" not in text and "accuracy" not in text


def test_a_run_that_is_not_finished_says_how_far_it_is() -> None:
    config = composed("anneal.steps=250")
    assert shown_row(config, None).state == "not started"
    assert "(interrupted)" in draw("main", [shown_row(config, read_as({}, "interrupted"))])


def test_a_name_is_plain_text_in_the_table() -> None:
    config = composed("anneal.steps=250")
    shown = row(config.tasks, 1000, "[red]x[/b]:smile: linear", outcome("after"))
    assert "[red]x[/b]:smile:" in draw("[b]main", [shown])
