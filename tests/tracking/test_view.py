"""The view names only what the projection makes, in a form MLflow takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sweep.tracking import facts, read, view


def test_every_column_and_chart_is_of_something_projected(run: Callable[..., Path]) -> None:
    events = read(run())
    made = {point.name for point in (*facts.step_points(events), *facts.score_points(events))}
    assert set(view.METRICS) <= made
    for chart in view.state()["compareRunCharts"]:
        named = {*chart.get("selectedMetrics", ()), *chart.get("selectedMetricKeys", ())}
        if chart["type"] == "SCATTER":
            named |= {chart["yaxis"]["key"]}
            assert chart["xaxis"]["key"] in view.PARAMS
        assert named
        assert named <= made


def test_charts_differ_and_have_a_section() -> None:
    state = view.state()
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert len({chart["uuid"] for chart in state["compareRunCharts"]}) == len(state["compareRunCharts"])
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == sections


def test_the_tag_holds_the_view_within_mlflows_limit() -> None:
    value = view.tags("mine")["mlflow.sharedViewState.mine"]
    assert json.loads(value) == view.state()
    assert len(value) < 20_000


def test_the_link_opens_the_view() -> None:
    assert view.link("http://127.0.0.1:5000/", "7", "mine") == (
        "http://127.0.0.1:5000/#/experiments/7/runs"
        "?workflowType=machine_learning&viewStateShareKey=mine&compareRunsMode=CHART"
    )
    assert view.link("http://h", "7", charts=False).endswith("viewStateShareKey=sweep&compareRunsMode=TABLE")
