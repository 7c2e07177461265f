"""Says which names, params, tags and points MLflow gets from a journal, within the limits of MLflow 3.17.

A point's timestamp and step follow from the journal alone, so sending a point again stores nothing new.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sweep.domain.digits import rounded, rounded_error
from sweep.tracking.events import Events, is_aggregate, milliseconds
from sweep.tracking.shown_scores import shown

PARAM_CHARS = 6000
TAG_CHARS = 8000
NAME_CHARS = 250
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""Outcome status -> MLflow's."""
PASSING_TAGS = {"sweep.changed_params", "sweep.infinite", "sweep.damaged_lines", "sweep.error"}
"""Tags that are deleted again when they no longer apply."""
STEP_METRICS = ("loss", "lr", "grad_norm", "param_norm", "update_norm", "tokens")
PEAK, LOG10_PEAK = "plan.peak_lr", "plan.log10_peak_lr"
ROUNDING = 1e-12
"""A smaller difference of scores is shown as 0: it is rounding, and MLflow's table would cut 4.3e-18 to 4.3."""
STDERR = "stderr/"
COUNTED = "train/tokens"
"""A curve that has a point at every update."""


class Point(NamedTuple):
    """One metric value."""

    name: str
    value: float
    """NaN (a gap) in place of an infinity: MLflow would store 1.8e308, which flattens every chart."""
    timestamp: int
    """Milliseconds since 1970."""
    step: int


def status(events: Events, *, alive: bool) -> str:
    """MLflow's status of the run: its outcome, or without one RUNNING if it is `alive`, and KILLED if not."""
    if events.outcome is None:
        return "RUNNING" if alive else "KILLED"
    return STATUS[events.outcome["status"]]


def step_points(events: Events, *, after: int = 0) -> Iterator[Point]:
    """The curves of the updates past `after`."""
    return _curves(events, (record for record in events.steps if record["update"] > after))


def redone_points(events: Events) -> Iterator[Point]:
    """The first points of updates that were done again later."""
    return _curves(events, events.redone)


def _curves(events: Events, records: Iterable[dict[str, Any]]) -> Iterator[Point]:
    start = milliseconds(events.attempts[0])
    for record in records:
        values = {name: record[name] for name in STEP_METRICS if _measured(record, name)}
        if record["lr"] > 0:
            values["log10_lr"] = math.log10(record["lr"])
        for name, value in values.items():
            yield Point(f"train/{name}", _finite(value), start + record["update"], record["update"])


def score_points(events: Events) -> Iterator[Point]:
    """The scores that MLflow shows with their standard errors, at the time they were written, and the run's costs."""
    for point in _scores(events):
        none = point.name.startswith("delta/") and abs(point.value) < ROUNDING
        yield point._replace(value=0.0 if none else _finite(point.value))
    if events.outcome is not None and events.outcome["result"] is not None:
        for name, value in events.outcome["result"]["cost"].items():
            yield Point(f"cost/{tidy(name)}", _finite(value), milliseconds(events.outcome), 0)


def to_known_digits(name: str, value: float, metrics: Mapping[str, float]) -> float:
    """A value of one of a run's `metrics` in MLflow as it is sent today: older releases sent scores with all digits."""
    error = metrics.get(f"{STDERR}{name}")
    if error is not None:
        return rounded(value, error)
    return rounded_error(value) if name.startswith(STDERR) else value


def superseded_points(events: Events) -> Iterator[Point]:
    """The `score_points` of earlier attempts that had other values; MLflow may have got them."""
    for event in events.superseded:
        then = tuple(attempt for attempt in events.attempts if attempt["time"] <= event["time"]) or events.attempts[:1]
        bare = replace(events, attempts=then, scores={}, scored_ms={}, outcome=None)
        if event["event"] == "outcome":
            yield from score_points(replace(bare, outcome=event))
        else:
            ms = {event["when"]: milliseconds(event)}
            yield from score_points(replace(bare, scores={event["when"]: event["scores"]}, scored_ms=ms))


def system_points(events: Events, *, after: int = 0) -> Iterator[Point]:
    """The machine's load after the first `after` samples, under the names that MLflow's own monitor uses."""
    for number, sample in enumerate(events.system, 1):
        if number > after:
            for name, value in sample["values"].items():
                yield Point(f"system/{tidy(name)}", _finite(value), milliseconds(sample), number)


def is_curve(point: Point) -> bool:
    """Whether the point belongs to an update."""
    return point.name.startswith("train/")


def is_sample(point: Point) -> bool:
    """Whether the point is a sample of the machine's load."""
    return point.name.startswith("system/")


def params(events: Events) -> dict[str, str]:
    """The first attempt's params in MLflow's form, and the resulting peak; long values are cut and end in a marker."""
    values = {**events.attempts[0]["params"], **peak(events)}
    return {name: fit(_text(value), PARAM_CHARS, "journal.jsonl") for name, value in _tidied(values)}


def peak(events: Events) -> dict[str, float]:
    """The peak learning rate, also where `anneal.peak_lr` is null, and its logarithm: MLflow's axes are linear."""
    lr = None if events.inputs is None else events.inputs["peak_lr"]
    return {} if lr is None else {PEAK: lr, LOG10_PEAK: round(math.log10(lr), 6)}


def tags(events: Events) -> dict[str, str]:
    """What identifies the run, and what may differ between attempts, as it was in the last one."""
    first, last = events.attempts[0], events.attempts[-1]
    changed = {k: v for k, v in last["params"].items() if k not in first["params"] or first["params"][k] != v}
    texts = {
        "sweep.key": first["key"],
        "sweep.name": first["sweep"],
        "sweep.attempts": str(len(events.attempts)),
        "host": last["host"],
        "pid": str(last["pid"]),
        "versions": _text(last["versions"]),
        "mlflow.source.name": last["command"],
        "mlflow.source.type": "LOCAL",
        "sweep.changed_params": _text(changed) if changed else "",
        "sweep.infinite": ", ".join(_infinite(events)),
        "sweep.damaged_lines": ", ".join(map(str, events.damaged)),
        "sweep.error": (events.outcome or {}).get("error") or "",
        **{f"mlflow.source.git.{name}": value for name, value in _git(last["git"])},
        **{f"machine.{name}": _text(value) for name, value in last.get("machine", {}).items()},
        **({"mlflow.user": last["user"]} if "user" in last else {}),
    }
    if events.inputs is not None:
        texts["checkpoint.digest"] = events.inputs["checkpoint"]["digest"]
        texts["checkpoint.uri"] = events.inputs["checkpoint"]["uri"]
    return {name: fit(value, TAG_CHARS, "journal.jsonl") for name, value in texts.items() if value}


def _git(state: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The state of the code, under MLflow's names."""
    if state is not None:
        yield "commit", state["commit"]
        yield "dirty", _text(state["changed"])
        yield from ((name, state[name]) for name in ("branch", "repoURL") if state.get(name))


def learning_rates(events: Events) -> str:
    """The executed learning rates as CSV, in full precision."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("update", "lr"))
    table.writerows((record["update"], repr(record["lr"])) for record in events.steps)
    return text.getvalue()


def fit(text: str, limit: int, where: str) -> str:
    """The text; if it is too long, its beginning and a marker that says where all of it is.

    NUL and half a surrogate pair, which databases can't store, become a replacement character.
    """
    text = re.sub("[\0\ud800-\udfff]", "\ufffd", text)
    if len(text) <= limit:
        return text
    marker = f" … [cut, {len(text)} characters, whole in {where}]"
    return text[: limit - len(marker)] + marker


def tidy(name: str) -> str:
    """The name with the characters, path form and length that MLflow allows."""
    parts = (re.sub(r"[^\w\-. :]", "_", part, flags=re.ASCII).strip() for part in name.split("/"))
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:NAME_CHARS] or "_"


def _scores(events: Events) -> list[Point]:
    """The scores that MLflow shows, to the digits that are known, then their errors; a run's page has this order."""
    values: dict[str, Point] = {}
    errors: list[Point] = []
    suites = {when: {s["task"] for s in scores if is_aggregate(s)} for when, scores in events.scores.items()}
    for when, score in shown(events):
        name = _free(tidy(_score_name(when, score, sole=len(suites[when]) == 1)), values)
        value, error = score["value"], score["stderr"]
        values[name] = Point(name, rounded(value, error), events.scored_ms[when], 0)
        errors.append(Point(tidy(f"{STDERR}{name}"), rounded_error(error), events.scored_ms[when], 0))
    return [*values.values(), *errors]


def _score_name(when: str, score: dict[str, Any], *, sole: bool) -> str:
    """`after/arc_easy.acc` (MLflow groups by what is before the slash); `after/mean` of a `sole` suite."""
    if is_aggregate(score) and sole and ":" not in score["task"]:  # a limit stays in the name
        return f"{when}/{score['metric']}"
    return f"{when}/{score['task']}.{score['metric']}"


def _tidied(named: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    taken: set[str] = set()
    for name, value in named.items():
        taken.add(free := _free(tidy(name), taken))
        yield free, value


def _free(name: str, taken: Container[str]) -> str:
    """The name, with a number if it is taken: two may differ only in characters that MLflow does not allow."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[: NAME_CHARS - 8]} {number}"
    return free


def _infinite(events: Events) -> Iterator[str]:
    """The infinities that `_finite` hides, in words."""
    for name in STEP_METRICS:
        updates = [record["update"] for record in events.steps if _measured(record, name) and math.isinf(record[name])]
        if updates:
            yield f"train/{name} in {len(updates)} updates from {updates[0]}"
    yield from (f"{point.name} = {point.value}" for point in _scores(events) if math.isinf(point.value))


def _measured(record: dict[str, Any], name: str) -> bool:
    """Whether this update has the metric; not all do, and older journals lack newer metrics."""
    return record.get(name) is not None


def _finite(value: float) -> float:
    return math.nan if math.isinf(value) else float(value)


def _text(value: Any) -> str:
    """A value as the command line spells it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
