"""The view is made of what a sweep varied and measured, in a form MLflow takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.tracking import Events, mlflow_values, read, view
from sweep.tracking.axes import axes

from .conftest import ATTEMPT, INPUTS

MakeRun = Callable[..., Path]


@pytest.fixture
def grid(run: MakeRun) -> list[Events]:
    """Steps x peak, four runs."""
    found = []
    for steps in (20, 40):
        for scale in (0.5, 2.0):
            params = {**ATTEMPT["params"], "anneal.steps": steps, "anneal.peak_scale": scale}
            inputs = {**INPUTS, "peak_lr": INPUTS["checkpoint"]["lr"] * scale}
            found.append(read(run(f"{steps}-{scale}", key=f"{steps}{scale}", params=params, inputs=inputs)))
    return found


def of(runs: list[Events], present: dict[str, str] | None = None) -> dict[str, Any]:
    return view.state_of(view.tags(present or {}, runs)[view.key("steps")])


def test_columns_are_what_was_varied_then_what_came_out(grid: list[Events]) -> None:
    assert of(grid)["selectedColumns"] == [
        "params.`anneal.steps`",
        "params.`plan.peak_lr`",
        *(f"metrics.`{when}/mean`" for when in ("before", "after", "delta")),
        *(f"metrics.`{when}/heldout.loss`" for when in ("before", "after", "delta")),
        "metrics.`cost/tokens`",
        "metrics.`cost/seconds`",
    ]
    assert of(grid)["orderByKey"] == "metrics.`after/heldout.loss`"
    assert of(grid)["orderByAsc"]


def test_where_nothing_was_varied_the_plain_columns_are_there(run: MakeRun) -> None:
    columns = of([read(run())])["selectedColumns"]
    assert columns[:4] == [f"params.`{name}`" for name in view.TABLE_AXES]


def test_steps_and_peak_have_a_contour_and_one_of_them_has_none(grid: list[Events]) -> None:
    contours = [c for c in of(grid)["compareRunCharts"] if c["type"] == "CONTOUR"]
    assert {(c["xaxis"]["key"], c["yaxis"]["key"], c["zaxis"]["key"]) for c in contours} == {
        ("anneal.steps", "plan.log10_peak_lr", "delta/heldout.loss"),
        ("anneal.steps", "plan.log10_peak_lr", "delta/mean"),
    }
    assert not [c for c in of(grid[::2])["compareRunCharts"] if c["type"] == "CONTOUR"]


def test_every_column_and_chart_is_of_something_projected(grid: list[Events]) -> None:
    made = {point.name for point in (*mlflow_values.step_points(grid[0]), *mlflow_values.score_points(grid[0]))} | {
        *mlflow_values.params(grid[0])
    }
    state = of(grid)
    assert {column.partition("`")[2][:-1] for column in state["selectedColumns"]} <= made
    for chart in state["compareRunCharts"]:
        named = [
            *chart.get("selectedMetrics", ()),
            *chart.get("selectedParams", ()),
            *chart.get("selectedMetricKeys", ()),
        ]
        named += [chart[axis]["key"] for axis in ("xaxis", "yaxis", "zaxis") if axis in chart]
        assert named
        assert set(named) <= made


def test_charts_differ_and_have_a_section(grid: list[Events]) -> None:
    state = of(grid)
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections


def test_each_sweep_has_its_view_and_one_shows_all(grid: list[Events], run: MakeRun) -> None:
    first = view.tags({}, grid)
    other = read(run("other", sweep="it's/odd", params={**ATTEMPT["params"], "tasks": "mmlu"}))
    both = {**first, **view.tags(first, [other])}
    assert view.key("steps") in both
    assert view.key("it's/odd") == "mlflow.sharedViewState.sweep.it_s_odd"
    filters = [view.state_of(both[key])["searchFilter"] for key in (view.key("it's/odd"), view.PREFIX + view.ALL)]
    assert filters == ["tags.`sweep.name` LIKE 'it_s_odd'", "tags.`sweep.key` LIKE '%'"]
    columns = view.state_of(both[view.PREFIX + view.ALL])["selectedColumns"]
    assert {"params.`anneal.steps`", "params.`plan.peak_lr`", "params.`model`", "metrics.`after/mean`"} <= {*columns}


def test_the_last_sweeps_view_is_the_newest(run: MakeRun) -> None:
    tags: dict[str, str] = {}
    for name in ("one", "two"):
        tags |= view.tags(tags, [read(run(name, sweep=name))])
    found = view.newest(tags)
    assert found is not None
    assert found[1] == "sweep.two"
    assert view.newest({"mlflow.note.content": "text"}) is None


def test_the_tag_holds_the_view_within_postgresqls_limit(grid: list[Events]) -> None:
    value = view.tags({}, grid)[view.key("steps")]
    assert json.loads(value).keys() == {"name", "createdAt", "state"}
    assert len(value) < 5000


def test_the_link_opens_the_view() -> None:
    assert view.link("http://127.0.0.1:5000/", "7", "sweep.a b") == (
        "http://127.0.0.1:5000/#/experiments/7/runs"
        "?workflowType=machine_learning&viewStateShareKey=sweep.a%20b&compareRunsMode=TABLE"
    )
    assert view.link("http://h", "7", charts=True).endswith("viewStateShareKey=all&compareRunsMode=CHART")


def test_what_follows_from_another_choice_is_no_axis(run: MakeRun) -> None:
    def made(name: str, **params: Any) -> Events:
        return read(run(name, key=name, params={"arm": "decay", **ATTEMPT["params"], **params}))

    models = [made(m, **{"model": m, "model.parameters": n}) for m, n in (("tiny-s", 1), ("tiny-m", 2))]
    assert axes(models) == {"model": ["tiny-m", "tiny-s"]}
    arms = [
        made(f"{arm}{steps}", **{"arm": arm, "anneal.steps": steps, "anneal.shape": shape})
        for arm, shape in (("decay", "linear"), ("constant", "constant"))
        for steps in (10, 20)
    ]
    assert axes(arms) == {"arm": ["constant", "decay"], "anneal.steps": [10, 20]}
    assert axes(models[:1]) == {}
