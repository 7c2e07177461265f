"""The table at the end of a sweep: pure rows first, drawing second."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.config import RunConfig
from sweep.planning.names import label

LOSS, VERSUS = "val loss", "vs constant"
WHENS = ("before", "after", "delta", VERSUS)
SIGNED = ("delta", VERSUS)
BEYOND = "\nvs constant: after, less that of as many updates on the same data at the learning rate in force"
Pair = tuple[float, float]
"""(value, standard error)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run as the table shows it; None: not there (yet)."""

    checkpoint: str
    anneal: str
    status: str
    figures: dict[str, dict[str, Pair | None]]
    """Suite, or LOSS of the held-out text -> "before", "after", "delta", and VERSUS: after, less the constant arm's."""
    tokens: int | None
    seconds: float | None


def row(config: RunConfig, name: str, events: Any, beyond: Iterable[Mapping[str, Any]] = ()) -> Row:
    """The row of a point under its name, from its journal's events; None: it has no journal.

    `beyond` are the scores of its difference to the constant control, as far as there is one.
    """
    checkpoint, _, anneal = name.partition(" ")
    scores = {**(events.scores if events else {}), VERSUS: list(beyond)}
    outcome = (events.outcome if events else None) or {"status": "not finished" if events else "not started"}
    cost = (outcome.get("result") or {}).get("cost", {})
    shown = {suite: (suite, "mean") for suite in config.tasks.suites}
    if config.tasks.heldout:
        shown[LOSS] = ("heldout", "loss")
    return Row(
        checkpoint=checkpoint,
        anneal=anneal,
        status=outcome["status"],
        figures={
            title: {when: _find(scores.get(when, ()), label(of, config.tasks.limit), metric) for when in WHENS}
            for title, (of, metric) in shown.items()
        },
        tokens=cost.get("tokens"),
        seconds=cost.get("seconds"),
    )


def draw(title: str, rows: Iterable[Row]) -> str:
    """The table as text, at most as wide as it needs."""
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
        anneal = r.anneal if r.status == "finished" else f"{r.anneal} ({r.status})"
        tokens = "–" if r.tokens is None else f"{r.tokens / 1e6:.2f}M" if r.tokens else "0"
        table.add_row(r.checkpoint, anneal, *cells, tokens, "–" if r.seconds is None else f"{r.seconds:.0f}")
    means = "mean" if len(suites) == 1 else ", ".join(suites)
    explained = [f"{means}: accuracy over the tasks in %"] if suites else []
    explained += [f"{LOSS}: nats a token on held-out documents"] if LOSS in titles else []
    table.caption = "; ".join([*explained, "± one standard error"]) + (BEYOND if compared else "")
    text = io.StringIO()
    Console(file=text, width=220).print(table)
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
