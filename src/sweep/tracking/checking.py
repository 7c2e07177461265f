"""Whether MLflow holds what a journal holds: counts and values of everything, compared one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from sweep.tracking import mlflow_values
from sweep.tracking.connection import Connection
from sweep.tracking.events import Events
from sweep.tracking.journal import read
from sweep.tracking.mlflow_inputs import artifacts

Value = tuple[str, int, int, str]
"""A point: name, timestamp in ms, step, and the value as text, so that NaN equals NaN."""


def differences(run_folder: Path, to: Connection, runs: list[Run], *, alive: bool) -> Iterator[str]:
    """What MLflow's `runs` of this point say otherwise than its journal, a line each; nothing: they are the same."""
    events = read(run_folder)
    if len(runs) != 1:
        yield f"{len(runs)} runs in MLflow instead of 1"
        return
    (run,) = runs
    if (status := mlflow_values.status(events, alive=alive)) != run.info.status:
        yield f"status {run.info.status}, journal {status}"
    yield from _named("param", run.data.params, mlflow_values.params(events))
    yield from _named("tag", run.data.tags, mlflow_values.tags(events))
    yield from _points(to, run, events)
    there = _paths(to, run.info.run_id)
    yield from (f"artifact {name} is missing" for name, _ in artifacts(run_folder, events) if name not in there)


def _named(kind: str, there: dict[str, str], journal: dict[str, str]) -> Iterator[str]:
    for name, value in journal.items():
        if there.get(name) != value:
            yield f"{kind} {name}: {there.get(name)!r}, journal {value!r}"


def _points(to: Connection, run: Run, events: Events) -> Iterator[str]:
    """Every point that is missing or too many, a line a metric and kind of trouble.

    An update that was redone may be there as it came out first, a score or cost that came out otherwise later, too.
    Updates that a damaged line held may be there.
    """
    expected = [
        *mlflow_values.step_points(events),
        *mlflow_values.system_points(events),
        *mlflow_values.score_points(events),
    ]
    earlier = {_value(point) for point in mlflow_values.redone_points(events)}
    journal = Counter(map(_value, expected))
    names = {point.name for point in expected} | set(run.data.metrics)
    there: Counter[Value] = Counter()
    for name in sorted(names):
        for metric in to.client.get_metric_history(run.info.run_id, name) if name in run.data.metrics else ():
            there[_value(mlflow_values.Point(name, metric.value, metric.timestamp, metric.step))] += 1
    missing, extra = journal - there, there - journal
    before = extra.keys() & set(map(_value, mlflow_values.superseded_points(events)))
    again = {(name, step, value) for name, _, step, value in before}  # came out the same in the end: not sent again
    missing = Counter({value: n for value, n in missing.items() if (value[0], *value[2:]) not in again})
    extra -= Counter(before)
    redone = {place(value) for value in extra if value in earlier} & {place(value) for value in missing}
    missing = Counter({value: n for value, n in missing.items() if place(value) not in redone})
    extra = Counter({value: n for value, n in extra.items() if place(value) not in redone})
    if events.damaged:
        held = {place(value) for value in journal}
        extra = Counter({value: n for value, n in extra.items() if place(value) in held})
    for word, points in (("missing", missing), ("not in the journal", extra)):
        by_name = Counter(value[0] for value in points.elements())
        for name, count in sorted(by_name.items()):
            of = Counter(value[0] for value in journal.elements())[name]
            first = min(value[2] for value in points if value[0] == name)
            yield f"metric {name}: {count} points {word}, journal {of}; the first at step {first}"


def place(value: Value) -> tuple[str, int]:
    """Metric and step."""
    return value[0], value[2]


def _value(point: mlflow_values.Point) -> Value:
    value = "nan" if math.isnan(point.value) else repr(float(point.value))
    return point.name, point.timestamp, point.step, value


def _paths(to: Connection, run_id: str, path: str | None = None) -> set[str]:
    """The paths of all artifacts of a run."""
    found: set[str] = set()
    for file in to.client.list_artifacts(run_id, path):
        found |= _paths(to, run_id, file.path) if file.is_dir else {file.path}
    return found
