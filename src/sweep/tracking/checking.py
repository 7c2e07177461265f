"""Compares MLflow with a journal: statuses, params, tags, every point, and the names of the artifacts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mlflow.entities import Run

from sweep.tracking import mlflow_values
from sweep.tracking.connection import Connection, as_begun
from sweep.tracking.events import Events, lost_lines, milliseconds
from sweep.tracking.journal import read
from sweep.tracking.mlflow_inputs import artifacts

Value = tuple[str, int, int, str]
"""A point: name, timestamp in ms, step, and the value as text, so that NaN equals NaN."""


def differences(run_folder: Path, to: Connection, runs: list[Run], *, alive: bool) -> Iterator[str]:
    """How MLflow's `runs` of a journal differ from it, a line each; nothing if they don't."""
    events = read(run_folder)
    if len(runs) != 1:
        yield f"{len(runs)} runs in MLflow instead of 1"
        return
    (run,) = runs
    events = as_begun(events, run)
    if events.lost:
        yield lost_lines(events)
    if (status := mlflow_values.status(events, alive=alive)) != run.info.status:
        yield f"status {run.info.status}, journal {status}"
    yield from _named("param", run.data.params, mlflow_values.params(events))
    yield from _named("tag", run.data.tags, mlflow_values.tags(events))
    yield from _points(to, run, events)
    sent = _paths(to, run.info.run_id)
    yield from (f"artifact {name} is missing" for name, _ in artifacts(run_folder, events) if name not in sent)


def _named(kind: str, sent: dict[str, str], journal: dict[str, str]) -> Iterator[str]:
    for name, value in journal.items():
        if sent.get(name) != value:
            yield f"{kind} {name}: {sent.get(name)!r}, journal {value!r}"


def _points(to: Connection, run: Run, events: Events) -> Iterator[str]:
    """Points that MLflow lacks or has too many, a line for each metric and kind of difference."""
    journal = Counter(
        _value(point)
        for points in (mlflow_values.step_points, mlflow_values.system_points, mlflow_values.score_points)
        for point in points(events)
    )
    have = run.data.metrics
    sent = Counter(
        _value(mlflow_values.Point(name, value, metric.timestamp, metric.step))
        for name in sorted(have)
        for metric in to.client.get_metric_history(run.info.run_id, name)
        for value in [mlflow_values.to_known_digits(name, metric.value, have)]
    )
    missing, extra = _without_earlier(journal - sent, sent - journal, events)
    missing, extra = _without_lost(missing, extra, set(map(_place, journal)), events)
    for kind, points in (("missing", missing), ("not in the journal", extra)):
        for name, count in sorted(Counter(value[0] for value in points.elements()).items()):
            total = sum(n for value, n in journal.items() if value[0] == name)
            first = min(value[2] for value in points if value[0] == name)
            yield f"metric {name}: {count} points {kind}, journal {total}; the first at step {first}"


def _without_earlier(
    missing: Counter[Value], extra: Counter[Value], events: Events
) -> tuple[Counter[Value], Counter[Value]]:
    """The differences, without those that are right because MLflow got a value before the journal had another one.

    These are updates that were done again, which MLflow keeps as they were first, and scores and costs of earlier
    attempts. Of those, one that came out the same in the end is not sent again at its later time.
    """
    earlier = extra.keys() & set(map(_value, mlflow_values.superseded_points(events)))
    unchanged = {(name, step, value) for name, _, step, value in earlier}
    redone = {_place(value) for value in extra.keys() & set(map(_value, mlflow_values.redone_points(events)))}
    redone &= set(map(_place, missing))
    still_missing = {v: n for v, n in missing.items() if (v[0], *v[2:]) not in unchanged and _place(v) not in redone}
    still_extra = {v: n for v, n in (extra - Counter(earlier)).items() if _place(v) not in redone}
    return Counter(still_missing), Counter(still_extra)


def _without_lost(
    missing: Counter[Value], extra: Counter[Value], places: set[tuple[str, int]], events: Events
) -> tuple[Counter[Value], Counter[Value]]:
    """The differences, without those that are right because the journal has lost lines since MLflow got them.

    `places` are those of the journal. A run that was made again may have lost the end of an earlier attempt without a
    trace. Of updates and samples MLflow keeps what came first, and a value that came out the same is not sent again.
    """
    again = milliseconds(events.attempts[-1]) if len(events.attempts) > 1 else 0

    def is_lost(value: Value) -> bool:
        name, timestamp, *_ = value
        is_earlier = timestamp < again and (name.startswith("system/") or _place(value) in places)
        return bool(events.damaged) or events.is_cut or (is_earlier and not name.startswith("train/"))

    lost = {value for value in extra if is_lost(value)}
    kept_first = {_place(value) for value in lost if value[0].startswith(("train/", "system/"))}
    unchanged = {(name, step, value) for name, _, step, value in lost}
    still = {v: n for v, n in missing.items() if _place(v) not in kept_first and (v[0], *v[2:]) not in unchanged}
    return Counter(still), Counter({value: n for value, n in extra.items() if value not in lost})


def _place(value: Value) -> tuple[str, int]:
    """Metric and step."""
    return value[0], value[2]


def _value(point: mlflow_values.Point) -> Value:
    value = "nan" if math.isnan(point.value) else repr(float(point.value))
    return point.name, point.timestamp, point.step, value


def _paths(to: Connection, run_id: str, path: str | None = None) -> set[str]:
    """The paths of all artifacts of a run."""
    paths: set[str] = set()
    for file in to.client.list_artifacts(run_id, path):
        paths |= _paths(to, run_id, file.path) if file.is_dir else {file.path}
    return paths
