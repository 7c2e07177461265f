"""Makes the saved view of a sweep on MLflow's experiment page: columns, order and charts, from what the sweep varied.

MLflow 3.17 keeps saved views (listed under "Views") in experiment tags `mlflow.sharedViewState.<key>`. They are not
documented; `tests/tracking/test_browser.py` looks at the page and fails if they change.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient

from sweep.planning.measures import BITS, LOWER_IS_BETTER, MEAN, leading
from sweep.tracking.axes import PEAKS, axes
from sweep.tracking.events import Events, milliseconds
from sweep.tracking.mlflow_values import LOG10_PEAK, PEAK, score_points, tidy
from sweep.tracking.shown_scores import WHENS

PREFIX = "mlflow.sharedViewState."
ALL = "all"
"""Key of the view of all sweeps; the key of one sweep's view is `sweep.NAME`."""
TABLE_AXES = ("model", "checkpoint.step", "anneal.shape", "anneal.steps")
"""Columns if nothing was varied."""
STEPS = "anneal.steps"
OUTCOME = re.compile(rf"(before|after|delta)/(([^/]*\.)?({MEAN}|{BITS})|heldout(:\d+)?\.loss)")
"""Metrics that are columns: the suites' means and the held-out loss."""
LOSS, MEANS = re.compile(r"delta/heldout(:\d+)?\.loss"), re.compile(rf"delta/([^/]*\.)?({MEAN}|{BITS})")
COSTS = ("cost/tokens", "cost/seconds")
SECTION = "Sweep"
COLLAPSED = ("delta", "after", "before", "train", "cost", *(f"stderr/{when}" for when in WHENS), "System metrics")
"""Sections that MLflow makes on the charts page, with a chart for each metric; they are collapsed."""
SMOOTHED = {"train/loss": 80, "train/lr": 0, "train/grad_norm": 80}
"""Curves, and how much they are smoothed, from 0 to 100."""


def tags(present: Mapping[str, str], runs: Sequence[Events]) -> dict[str, str]:
    """The experiment's tags that hold the view of these runs, all of one sweep, and the view of all sweeps so far.

    `present` are the tags that the experiment has. A further tag says that it holds training runs; without that MLflow
    shows it as traces of agents.
    """
    first = min((run.attempts[0] for run in runs), key=lambda attempt: attempt["time"])
    own = {
        key(first["sweep"]): _tag(
            first["sweep"], milliseconds(first), state(tuple(axes(runs)), outcomes(runs), sweep=first["sweep"])
        )
    }
    views = [state_of(value) for name, value in {**present, **own}.items() if name.startswith(f"{PREFIX}sweep.")]
    columns = dict.fromkeys(column for view in views for column in view["selectedColumns"])
    whole = state(_named("params", columns), _named("metrics", columns))
    return {**own, PREFIX + ALL: _tag("all sweeps", 0, whole), "mlflow.experimentKind": "custom_model_development"}


def key(sweep: str) -> str:
    """The experiment's tag that holds a sweep's view."""
    return f"{PREFIX}sweep.{tidy(sweep.replace('/', '_'))}"


def newest(tags: Mapping[str, str]) -> tuple[int, str] | None:
    """(time in ms, name in links) of the view of an experiment's last sweep; None if it has no sweep."""
    views = {name.removeprefix(PREFIX): json.loads(value) for name, value in tags.items() if name.startswith(PREFIX)}
    ours = [(view["createdAt"], name) for name, view in views.items() if name.startswith("sweep.")]
    return max(ours, default=None)


def newest_view(tracking_uri: str) -> tuple[str, str] | None:
    """(experiment id, name in links) of the view of the last sweep in an MLflow; None if there is no sweep yet."""
    experiments = MlflowClient(tracking_uri).search_experiments()
    views = [(*view, experiment.experiment_id) for experiment in experiments if (view := newest(experiment.tags))]
    _, name, experiment_id = max(views, default=(0, "", ""))
    return (experiment_id, name) if views else None


def link(base_url: str, experiment_id: str, name: str = ALL, *, charts: bool = False) -> str:
    """The address that opens the experiment in the view of that name, at its table or its charts."""
    return (
        f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={quote(name)}&compareRunsMode={'CHART' if charts else 'TABLE'}"
    )


def outcomes(runs: Iterable[Events]) -> tuple[str, ...]:
    """The metrics of these runs that are columns, those first that can tell: before, after and delta of each."""
    runs = list(runs)
    names = dict.fromkeys(p.name for run in runs for p in score_points(run) if OUTCOME.fullmatch(p.name))
    order = [*leading(run.attempts[-1]["params"].get("model.parameters") for run in runs), "loss"]
    titles = sorted(dict.fromkeys(name.partition("/")[2] for name in names), key=lambda t: order.index(_metric(t)))
    return tuple(f"{when}/{title}" for title in titles for when in WHENS)


def lower_is_better(name: str) -> bool:
    """Whether less of a metric of MLflow's is better: `after/mean_bits_per_byte`, `delta/heldout.loss`."""
    return _metric(name) in LOWER_IS_BETTER


def _metric(name: str) -> str:
    """`loss` of `delta/heldout.loss`."""
    return re.split("[./]", name)[-1]


def state(varied: Sequence[str], measured: Sequence[str], *, sweep: str | None = None) -> dict[str, Any]:
    """The view of one sweep, or of all if None: its columns, the order of its runs, and its charts."""
    shown = [name for name in varied if name not in PEAKS or PEAK not in varied]
    measured = [*(name for name in measured if name not in COSTS), *COSTS]
    columns = [*(_column("params", name) for name in shown or TABLE_AXES), *(_column("metrics", m) for m in measured)]
    best = next((name for name in measured if OUTCOME.fullmatch(name) and lower_is_better(name)), measured[0])
    return {
        "searchFilter": "tags.`sweep.key` LIKE '%'" if sweep is None else f"tags.`sweep.name` LIKE '{_like(sweep)}'",
        "orderByKey": _column("metrics", re.sub("^(before|delta)/", "after/", best)),
        "orderByAsc": lower_is_better(best),
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": None,
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [_section(SECTION, display=True), *(_section(name) for name in COLLAPSED)],
        "compareRunCharts": _charts(shown, measured),
    }


def state_of(tag: str) -> dict[str, Any]:
    """The view that a tag holds."""
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def _tag(title: str, created_ms: int, state: dict[str, Any]) -> str:
    """The tag that holds a view."""
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)).decode()
    return json.dumps({"name": title, "createdAt": created_ms, "state": f"deflate;{packed}"}, separators=(",", ":"))


def _charts(varied: Sequence[str], measured: Sequence[str]) -> list[dict[str, Any]]:
    """Parallel coordinates, deltas against steps, peak and checkpoint step, contours of steps and peak, and curves."""
    losses, means = ([m for m in measured if of.fullmatch(m)] for of in (LOSS, MEANS))
    lines = [LOG10_PEAK if name == PEAK else name for name in varied]
    charts = []
    if lines and (losses or means):
        title = "What was varied, and what came out"
        ends = [*means, *(metric.replace("delta/", "after/") for metric in losses)]
        charts += [_chart("PARALLEL", title, selectedParams=lines, selectedMetrics=ends, showAllRuns=True)]
    for metric in (*losses, *means):
        charts += [_scatter(metric, axis) for axis in lines if axis in (STEPS, LOG10_PEAK, "checkpoint.step")]
        if STEPS in lines and LOG10_PEAK in lines:
            across = {"xaxis": _axis("PARAM", STEPS), "yaxis": _axis("PARAM", LOG10_PEAK)}
            charts += [_chart("CONTOUR", f"{metric} by {STEPS} and peak", **across, zaxis=_axis("METRIC", metric))]
    return [*charts, *(_line(name, smooth) for name, smooth in SMOOTHED.items())]


def _scatter(metric: str, param: str) -> dict[str, Any]:
    axes = {"xaxis": _axis("PARAM", param), "yaxis": _axis("METRIC", metric)}
    direction = " (lower is better)" * lower_is_better(metric)
    return _chart("SCATTER", f"{metric} by {param}{direction}", **axes)


def _line(metric: str, smooth: int) -> dict[str, Any]:
    return _chart(
        "LINE",
        metric,
        metricKey=metric,
        selectedMetricKeys=[metric],
        xAxisKey="step",
        xAxisScaleType="linear",
        scaleType="linear",
        yAxisKey="metric",
        lineSmoothness=smooth,
        range={},
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=False,
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


def _section(name: str, *, display: bool = False) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": display, "isReordered": False, "columns": 2}


def _axis(kind: str, name: str) -> dict[str, str]:
    return {"key": name, "type": kind}


def _column(kind: str, name: str) -> str:
    """A column, or an order, as MLflow's page names it."""
    return f"{kind}.`{name}`"


def _named(kind: str, columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(column[len(kind) + 2 : -1] for column in columns if column.startswith(f"{kind}."))


def _like(value: str) -> str:
    """The value as a pattern of a filter, with wildcards in place of what a filter can't hold, such as quotes."""
    return re.sub("[^a-zA-Z0-9.-]", "_", value)
