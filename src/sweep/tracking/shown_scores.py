"""Chooses the scores that MLflow shows, about 90 of the 900 of a run; the journal has all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sweep.planning.measures import leading
from sweep.tracking.events import Events, is_aggregate, is_held_out, unlimited

HELD_OUT_METRICS = ("loss", "perplexity", "bits_per_byte")
WHENS = ("before", "after", "delta")
ELSEWHERE = "Every other metric is in `journal.jsonl`, and by document in the Parquet records."


def shown(events: Events) -> Iterator[tuple[str, dict[str, Any]]]:
    """(when, score) of the suites' means, the leading one first, the held-out text, and each task's chosen metric."""
    params = events.attempts[-1]["params"]
    chosen, order = chosen_metrics(params), leading([params.get("model.parameters")])
    for when in WHENS:
        scores = events.scores.get(when, [])
        ranked = sorted(scores, key=lambda score: _rank(score, order))
        yield from ((when, score) for score in ranked if _is_shown(score, chosen))


def chosen_metrics(params: dict[str, Any]) -> dict[str, str]:
    """Task -> the metric that enters its suite's mean; no task is in two suites."""
    split = {key.partition(".metrics."): value for key, value in params.items()}
    return {task: metric for (suite, _, task), metric in split.items() if task and suite.startswith("tasks.suites.")}


def _rank(score: dict[str, Any], order: tuple[str, ...]) -> tuple[int, ...]:
    """Sorting key: means in this order, other aggregates, held-out text, tasks."""
    place = (*order, score["metric"]).index(score["metric"])
    return (0, place) if is_aggregate(score) else (1, not is_held_out(score))


def _is_shown(score: dict[str, Any], chosen: dict[str, str]) -> bool:
    """Whether MLflow shows a score; all are shown if the journal names no suites."""
    if is_held_out(score):
        return score["metric"] in HELD_OUT_METRICS
    return is_aggregate(score) or not chosen or (chosen.get(unlimited(score["task"])) == score["metric"])
