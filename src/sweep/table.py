"""The table at the end of a sweep: pure rows first, drawing second."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.config import RunConfig
from sweep.names import label

CAPTION = "mean: accuracy over the tasks in %; val loss: nats a token on held-out documents; ± one standard error"
BEYOND = "\nvs constant: after, less that of as many updates on the same data at the learning rate in force"
Pair = tuple[float, float]
"""(value, standard error)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run as the table shows it; None: not there (yet)."""

    checkpoint: str
    anneal: str
    status: str
    mean: dict[str, Pair | None]
    """"before", "after", "delta" -> mean over the tasks of the first suite."""
    loss: dict[str, Pair | None]
    """The same of the held-out loss."""
    beyond: dict[str, Pair | None]
    """"mean", "loss" -> after, less that of the constant control: what the decay did beyond more data."""
    tokens: int | None
    seconds: float | None


def row(config: RunConfig, name: str, events: Any, beyond: Iterable[Mapping[str, Any]] = ()) -> Row:
    """The row of a point under its name, from its journal's events; None: it has no journal.

    `beyond` are the scores of its difference to the constant control, as far as there is one.
    """
    checkpoint, _, anneal = name.partition(" ")
    suite = next(iter(config.tasks.suites), "")
    mean_of, heldout = label(suite, config.tasks.limit), label("heldout", config.tasks.limit)
    scores = events.scores if events else {}
    outcome = (events.outcome if events else None) or {"status": "not finished" if events else "not started"}
    cost = (outcome.get("result") or {}).get("cost", {})
    return Row(
        checkpoint=checkpoint,
        anneal=anneal,
        status=outcome["status"],
        mean={when: _find(scores.get(when, ()), mean_of, "mean") for when in ("before", "after", "delta")},
        loss={when: _find(scores.get(when, ()), heldout, "loss") for when in ("before", "after", "delta")},
        beyond={"mean": _find(beyond, mean_of, "mean"), "loss": _find(beyond, heldout, "loss")},
        tokens=cost.get("tokens"),
        seconds=cost.get("seconds"),
    )


def draw(title: str, rows: Iterable[Row]) -> str:
    """The table as text, at most as wide as it needs."""
    rows = list(rows)
    compared = any(pair for r in rows for pair in r.beyond.values())
    versus = ["vs constant"] if compared else []
    table = Table(title=f"sweep {title}", title_justify="left", caption_justify="left")
    table.add_column("checkpoint")
    table.add_column("anneal")
    deltas = ("after", "delta", *versus)
    for name in ("mean before", *deltas, "val loss before", *deltas, "tokens", "seconds"):
        table.add_column(name, justify="right")
    for r in rows:
        mean = [_percent(r.mean[when], signed=when == "delta") for when in r.mean]
        loss = [_nats(r.loss[when], signed=when == "delta") for when in r.loss]
        if compared:
            mean.append(_percent(r.beyond["mean"], signed=True))
            loss.append(_nats(r.beyond["loss"], signed=True))
        anneal = r.anneal if r.status == "finished" else f"{r.anneal} ({r.status})"
        tokens = "–" if r.tokens is None else f"{r.tokens / 1e6:.2f}M" if r.tokens else "0"
        table.add_row(r.checkpoint, anneal, *mean, *loss, tokens, "–" if r.seconds is None else f"{r.seconds:.0f}")
    table.caption = CAPTION + (BEYOND if compared else "")
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
