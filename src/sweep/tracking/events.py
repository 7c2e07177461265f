"""What a journal holds, as it was read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from sweep.config import model_params
from sweep.planning.names import told_apart

HELD_OUT = "heldout"
"""The task name of the held-out text."""
RENAMED = {"model.recipe": "model.published.recipe", "model.run": "model.published.run"}
"""Param as older journals name it -> the key that it is."""


@dataclass(frozen=True)
class Events:
    """A journal as read, its redone updates reduced to one each."""

    attempts: tuple[dict[str, Any], ...]
    """Every start of this run, the first one first."""
    steps: tuple[dict[str, Any], ...]
    """One record an update, ascending; of an update written twice, the last."""
    redone: tuple[dict[str, Any], ...]
    """The earlier records of updates written twice; MLflow may have been shown them before they were redone."""
    scores: dict[str, list[dict[str, Any]]]
    """"before", "after" and "delta", as far as they are there; of one that came out otherwise later, the last."""
    artifacts: dict[str, str]
    """Name -> path, relative to the run's folder or absolute."""
    outcome: dict[str, Any] | None
    """The outcome of the last attempt; None: it has none yet."""
    damaged: tuple[int, ...]
    """Numbers, from 1, of the lines that can't be read."""
    lost: tuple[int, ...] = ()
    """Those of them that no later attempt of a finished run has written again."""
    is_cut: bool = False
    """Whether lines of its beginning are known to be gone, because MLflow has them."""
    inputs: dict[str, Any] | None = None
    """Checkpoint, data and held-out text of the last attempt that came so far; None: older journals lack it."""
    system: tuple[dict[str, Any], ...] = ()
    """How busy the host was, in order; read with the steps."""
    scored_ms: dict[str, int] = field(default_factory=dict)
    """"before", "after", "delta" -> when these scores first came out so, in ms since 1970."""
    superseded: tuple[dict[str, Any], ...] = ()
    """Scores that came out otherwise later, and outcomes that an attempt followed."""

    def summary(self) -> Events:
        """What a sweep needs of each of its runs: 10,000 of these fit into memory.

        Updates, scores of single tasks, and most of what an attempt and an outcome hold are left out.
        """
        outcome = self.outcome
        if outcome is not None and outcome["result"] is not None:
            outcome = {**outcome, "result": {"cost": outcome["result"]["cost"]}}
        return replace(
            self,
            attempts=tuple(map(_attempt_summary, (*self.attempts[:1], *self.attempts[1:][-1:]))),
            steps=(),
            redone=(),
            scores={
                when: [score for score in scores if is_aggregate(score) or is_held_out(score)]
                for when, scores in self.scores.items()
            },
            artifacts={},
            outcome=outcome,
            inputs=None if self.inputs is None else {"peak_lr": self.inputs["peak_lr"]},
            system=(),
            superseded=(),
        )


def is_aggregate(score: dict[str, Any]) -> bool:
    """Whether a score is a mean over a suite's tasks, plain or above chance."""
    return score["metric"].startswith("mean")


def is_held_out(score: dict[str, Any]) -> bool:
    """Whether a score is of the held-out text, all of it or a limited part."""
    return unlimited(score["task"]) == HELD_OUT


def unlimited(task: str) -> str:
    """A task's name without its limit: `arc_easy` of `arc_easy:20`."""
    return task.partition(":")[0]


def params_of(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """The params of an attempt by the keys of today.

    Older journals have the leaves of `model` in `config_yaml` alone.
    """
    params = {RENAMED.get(name, name): value for name, value in attempt["params"].items()}
    if "model.source" in params or "config_yaml" not in attempt:
        return params
    chosen = yaml.load(attempt["config_yaml"], getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    return {**model_params(chosen.get("model", {})), **params}


def run_names(runs: Sequence[Events]) -> list[str]:
    """The names of the runs of a sweep for people, each different from the others."""
    attempts = [run.attempts[0] for run in runs]
    names, keys = [attempt["name"] for attempt in attempts], [attempt["key"] for attempt in attempts]
    return told_apart(names, [params_of(attempt) for attempt in attempts], keys)


def _attempt_summary(attempt: dict[str, Any]) -> dict[str, Any]:
    params = {sys.intern(name): value for name, value in params_of(attempt).items()}
    return {**{name: attempt[name] for name in ("time", "key", "name", "sweep", "host")}, "params": params}


def lost_lines(events: Events) -> str:
    """Which lines of the journal are lost, in words."""
    numbers = ", ".join(map(str, events.lost))
    return f"line{'s' * (len(events.lost) > 1)} {numbers} of its journal can't be read: what was written there is lost"


def milliseconds(event: dict[str, Any]) -> int:
    """When an event was written, as MLflow counts."""
    return int(event["time"] * 1000)
