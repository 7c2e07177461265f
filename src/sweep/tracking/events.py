"""A journal as it was read (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    inputs: dict[str, Any] | None = None
    """Checkpoint, data and held-out text of the last attempt that came so far; None: older journals lack it."""
    system: tuple[dict[str, Any], ...] = ()
    """How busy the host was, in order; read with the steps."""
    scored_ms: dict[str, int] = field(default_factory=dict)
    """"before", "after", "delta" -> when these scores first came out so, in ms since 1970."""
    superseded: tuple[dict[str, Any], ...] = ()
    """Scores that came out otherwise later, and outcomes that an attempt followed."""


def milliseconds(event: dict[str, Any]) -> int:
    """When an event was written, as MLflow counts."""
    return int(event["time"] * 1000)
