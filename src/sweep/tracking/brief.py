"""What a sweep needs of each of its runs, so that 10,000 of them are in memory at once (pure)."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from sweep.tracking.events import Events
from sweep.tracking.shown_scores import is_aggregate, is_held_out

ATTEMPT = ("time", "key", "name", "sweep", "host")


def brief(events: Events) -> Events:
    """The events without updates, scores of single tasks, and what of an attempt is a tag or a file in MLflow."""
    attempts = (*events.attempts[:1], *events.attempts[1:][-1:])
    scores = {
        when: [score for score in found if is_aggregate(score) or is_held_out(score)]
        for when, found in events.scores.items()
    }
    return replace(
        events,
        attempts=tuple(map(_attempt, attempts)),
        steps=(),
        redone=(),
        scores=scores,
        artifacts={},
        outcome=_outcome(events.outcome),
        inputs=None if events.inputs is None else {"peak_lr": events.inputs["peak_lr"]},
        system=(),
        superseded=(),
    )


def _attempt(event: dict[str, Any]) -> dict[str, Any]:
    params = {sys.intern(name): value for name, value in event["params"].items()}
    return {**{name: event[name] for name in ATTEMPT}, "params": params}


def _outcome(event: dict[str, Any] | None) -> dict[str, Any] | None:
    if event is None or event["result"] is None:
        return event
    return {**event, "result": {"cost": event["result"]["cost"]}}
