"""The experiment page as a researcher wants to find it: columns, order and charts, held by an experiment tag.

True to MLflow 3.17's shared view state (`mlflow.sharedViewState.<key>`), which is undocumented: test it in a browser.
"""

from __future__ import annotations

import json
from typing import Any

KEY = "sweep"
PARAMS = ("arm", "model", "checkpoint.step", "anneal.shape", "anneal.steps", "anneal.peak_lr")
METRICS = (
    "before/mean",
    "after/mean",
    "delta/mean",
    "before/loss/heldout",
    "after/loss/heldout",
    "delta/loss/heldout",
    "cost/tokens",
    "cost/seconds",
)
BEST_FIRST = "after/loss/heldout"
SECTION = "Anneal"


def tags(key: str = KEY) -> dict[str, str]:
    """The experiment's tags: the view, and that it is of training runs (MLflow takes it for agents' traces else)."""
    return {
        f"mlflow.sharedViewState.{key}": json.dumps(state(), separators=(",", ":")),
        "mlflow.experimentKind": "custom_model_development",
    }


def link(base_url: str, experiment_id: str, key: str = KEY, *, charts: bool = True) -> str:
    """The address that opens the experiment in the view, on its charts or on its table."""
    return (
        f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={key}&compareRunsMode={'CHART' if charts else 'TABLE'}"
    )


def state() -> dict[str, Any]:
    """The view: which columns, in which order of runs, with which charts on top of MLflow's own."""
    columns = [_column("params", name) for name in PARAMS] + [_column("metrics", name) for name in METRICS]
    return {
        "searchFilter": "",
        "orderByKey": _column("metrics", BEST_FIRST),
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [{"uuid": SECTION, "name": SECTION, "display": True, "isReordered": False, "columns": 2}],
        "compareRunCharts": _charts(),
    }


def _charts() -> list[dict[str, Any]]:
    return [
        _chart(
            "PARALLEL",
            "The axes and what came out",
            selectedParams=[name for name in PARAMS if name != "model"],
            selectedMetrics=["delta/mean", BEST_FIRST],
            showAllRuns=True,
        ),
        _scatter("Validation loss after - before, by anneal steps", "anneal.steps", "delta/loss/heldout"),
        _scatter("Mean accuracy after - before, by anneal steps", "anneal.steps", "delta/mean"),
        _line("train/loss"),
        _line("train/lr"),
        _line("train/log10_lr"),
    ]


def _scatter(title: str, param: str, metric: str) -> dict[str, Any]:
    return _chart("SCATTER", title, xaxis={"key": param, "type": "PARAM"}, yaxis={"key": metric, "type": "METRIC"}) | {
        "runsCountToCompare": 100
    }


def _line(metric: str) -> dict[str, Any]:
    return _chart(
        "LINE",
        metric,
        metricKey=metric,
        selectedMetricKeys=[metric],
        xAxisKey="step",
        xAxisScaleType="linear",
        scaleType="linear",
        yAxisKey="metric",
        lineSmoothness=0,
        range={},
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )


def _chart(kind: str, title: str, **more: Any) -> dict[str, Any]:
    return {
        "uuid": f"{kind}-{title}",
        "type": kind,
        "displayName": title,
        "metricSectionId": SECTION,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
        **more,
    }


def _column(kind: str, name: str) -> str:
    """A column, or an order, as the page's own code names it."""
    return f"{kind}.`{name}`"
