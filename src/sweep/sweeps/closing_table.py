"""The table at the end of a sweep: first its rows, from configurations and journals, then its text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.config import Tasks
from sweep.planning.names import label

LOSS, VERSUS = "held-out loss", "vs constant"
WHENS = ("before", "after", "delta", VERSUS)
SIGNED = ("delta", VERSUS)
VERSUS_NOTE = "\nvs constant: after, less that of as many updates on the same data at the current LR"
Pair = tuple[float, float]
"""(value, standard error)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the table; None: there is no such figure, or not yet."""

    checkpoint: str
    anneal: str
    state: str
    """finished, failed, interrupted, running or not started."""
    figures: dict[str, dict[str, Pair | None]]
    """Task set, or LOSS -> "before", "after", "delta", and VERSUS: after, less that of the matched control."""
    tokens: int | None
    seconds: float | None


def row(
    tasks: Tasks,
    name: str,
    events: Any,
    beyond: Iterable[Mapping[str, Any]] = (),
    *,
    is_running: bool = False,
) -> Row:
    """The row of a run under its name, from the events of its journal; None: it has no journal.

    `beyond` are the scores of its difference to the matched control; `is_running`: a process works on the run.
    """
    checkpoint, _, anneal = name.partition(" ")
    scores = {**(events.scores if events else {}), VERSUS: list(beyond)}
    outcome = (events.outcome if events else None) or {}
    cost = (outcome.get("result") or {}).get("cost", {})
    measures = {suite: (suite, "mean") for suite in tasks.suites}
    if tasks.heldout:
        measures[LOSS] = ("heldout", "loss")
    without_outcome = "running" if is_running else "interrupted" if events else "not started"
    return Row(
        checkpoint=checkpoint,
        anneal=anneal,
        state=outcome.get("status", without_outcome),
        figures={
            title: {when: _find(scores.get(when, ()), label(of, tasks.limit), metric) for when in WHENS}
            for title, (of, metric) in measures.items()
        },
        tokens=cost.get("tokens"),
        seconds=cost.get("seconds"),
    )


def draw(title: str, rows: Iterable[Row]) -> str:
    """The table as text, as wide as its columns need."""
    rows = list(rows)
    compared = any(figures[VERSUS] for r in rows for figures in r.figures.values())
    whens = [when for when in WHENS if when != VERSUS or compared]
    suites = dict.fromkeys(suite for r in rows for suite in r.figures if suite != LOSS)
    titles = {suite: "mean" if len(suites) == 1 else suite for suite in suites}
    if any(LOSS in r.figures for r in rows):
        titles[LOSS] = LOSS
    table = Table(title=f"sweep {title}", title_justify="left", caption_justify="left")
    table.add_column("checkpoint")
    table.add_column("anneal")
    for name in titles.values():
        for when in whens:
            table.add_column(f"{name} {when}" if when == "before" else when, justify="right")
    for name in ("tokens", "seconds"):
        table.add_column(name, justify="right")
    for r in rows:
        cells = [
            (_nats if of == LOSS else _percent)(r.figures.get(of, {}).get(when), signed=when in SIGNED)
            for of in titles
            for when in whens
        ]
        anneal = r.anneal if r.state == "finished" else f"{r.anneal} ({r.state})"
        tokens = "–" if r.tokens is None else f"{r.tokens / 1e6:.2f}M" if r.tokens else "0"
        table.add_row(r.checkpoint, anneal, *cells, tokens, "–" if r.seconds is None else f"{r.seconds:.0f}")
    means = "mean" if len(suites) == 1 else ", ".join(suites)
    explained = [f"{means}: accuracy over the tasks in %"] if suites else []
    explained += [f"{LOSS}: nats a token on held-out documents"] if LOSS in titles else []
    table.caption = "; ".join([*explained, "± one standard error"]) + (VERSUS_NOTE if compared else "")
    text = io.StringIO()
    Console(file=text, width=220, markup=False, emoji=False).print(table)  # names are plain text
    return text.getvalue()


def _find(scores: Iterable[Mapping[str, Any]], task: str, metric: str) -> Pair | None:
    for score in scores:
        if score["task"] == task and score["metric"] == metric:
            return score["value"], score["stderr"]
    return None


def _percent(pair: Pair | None, *, signed: bool) -> str:
    return "–" if pair is None else f"{100 * pair[0]:{'+' if signed else ''}.2f} ± {100 * pair[1]:.2f}"


def _nats(pair: Pair | None, *, signed: bool) -> str:
    return "–" if pair is None else f"{pair[0]:{'+' if signed else ''}.4f} ± {pair[1]:.4f}"
