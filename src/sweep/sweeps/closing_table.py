"""The table at the end of a sweep: first its rows, from configurations and journals, then its text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.config import RunConfig, Tasks
from sweep.config.tasks import ACCURACIES
from sweep.domain.digits import with_error
from sweep.planning.measures import BITS, MEAN, leading, why_leading
from sweep.planning.names import label

LOSS = ("heldout", "loss")
VERSUS = "vs constant"
WHENS = ("before", "after", "delta", VERSUS)
SIGNED = ("delta", VERSUS)
VERSUS_NOTE = "vs constant: after, less that of as many updates on the same data at the current LR"
Pair = tuple[float, float]
"""(value, standard error)."""
Measure = tuple[str, str]
"""Task set, or the held-out text, and metric."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the table; None: there is no such figure, or not yet."""

    checkpoint: str
    anneal: str
    state: str
    """finished, failed, interrupted, running or not started."""
    parameters: int | None
    """Of the model; None: not known."""
    tasks: Tasks
    figures: dict[Measure, dict[str, Pair | None]]
    """For each measure "before", "after", "delta", and VERSUS: after, less that of the matched control."""
    tokens: int | None
    seconds: float | None


def row(
    config: RunConfig,
    name: str,
    events: Any,
    beyond: Iterable[Mapping[str, Any]] = (),
    *,
    is_running: bool = False,
) -> Row:
    """The row of a run under its name, from the events of its journal; None: it has no journal.

    `beyond` are the scores of its difference to the matched control; `is_running`: a process works on the run.
    """
    tasks = config.tasks
    checkpoint, _, anneal = name.partition(" ")
    scores = {**(events.scores if events else {}), VERSUS: list(beyond)}
    outcome = (events.outcome if events else None) or {}
    cost = (outcome.get("result") or {}).get("cost", {})
    measures = [(suite, metric) for suite in tasks.suites for metric in (MEAN, BITS)] + [LOSS] * tasks.heldout
    without_outcome = "running" if is_running else "interrupted" if events else "not started"
    return Row(
        checkpoint=checkpoint,
        anneal=anneal,
        state=outcome.get("status", without_outcome),
        parameters=config.model.parameters,
        tasks=tasks,
        figures={
            (of, metric): {when: _find(scores.get(when, ()), label(of, tasks.limit), metric) for when in WHENS}
            for of, metric in measures
        },
        tokens=cost.get("tokens"),
        seconds=cost.get("seconds"),
    )


def draw(title: str, rows: Sequence[Row]) -> str:
    """The table as text, as wide as its columns need."""
    compared = any(figures[VERSUS] for r in rows for figures in r.figures.values())
    measures = _measures(rows)
    table = Table(title=f"sweep {title}", title_justify="left", caption_justify="left")
    table.add_column("checkpoint")
    table.add_column("anneal")
    columns = [column for of in measures for column in _columns(of, is_first=of == measures[0], compared=compared)]
    for (of, when), heading in columns:
        table.add_column(f"{_title(of, rows)} {when}" if heading else when, justify="right")
    for name in ("tokens", "seconds"):
        table.add_column(name, justify="right")
    for r in rows:
        cells = [_cell(r.figures.get(of, {}).get(when), of, rows, signed=when in SIGNED) for (of, when), _ in columns]
        anneal = r.anneal if r.state == "finished" else f"{r.anneal} ({r.state})"
        tokens = "–" if r.tokens is None else f"{r.tokens / 1e6:.2f}M" if r.tokens else "0"
        table.add_row(r.checkpoint, anneal, *cells, tokens, "–" if r.seconds is None else f"{r.seconds:.0f}")
    table.caption = "\n".join([*_explained(measures, rows), *([VERSUS_NOTE] if compared else [])])
    text = io.StringIO()
    Console(file=text, width=240, markup=False, emoji=False).print(table)  # names are plain text
    return text.getvalue()


def _measures(rows: Sequence[Row]) -> list[Measure]:
    """The measures that the table has, those first that can tell at the models' sizes; the held-out loss last."""
    present = {of: figures for r in rows for of, figures in r.figures.items() if any(figures.values()) or of[1] != BITS}
    order = (*leading(r.parameters for r in rows), LOSS[1])
    return sorted(present, key=lambda of: order.index(of[1]))


def _columns(of: Measure, *, is_first: bool, compared: bool) -> list[tuple[tuple[Measure, str], bool]]:
    """(measure, when) of each column of a measure, and whether its heading names it; before: of the first one alone."""
    whens = [when for when in WHENS if (when != "before" or is_first) and (when != VERSUS or compared)]
    return [((of, when), place == 0) for place, when in enumerate(whens)]


def _title(of: Measure, rows: Sequence[Row]) -> str:
    """The name of a measure; that of the suite is in it if there are several."""
    suite, metric = of
    if of == LOSS:
        return "held-out loss"
    suites = dict.fromkeys(name for r in rows for name in r.tasks.suites)
    name = "bits per byte" if metric == BITS else "accuracy" if _is_accuracy(suite, rows) else "mean"
    return name if len(suites) == 1 else f"{suite} {name}"


def _is_accuracy(suite: str, rows: Sequence[Row]) -> bool:
    chosen = [r.tasks.suites[suite].metrics.values() for r in rows if suite in r.tasks.suites]
    return all(metric in ACCURACIES for metrics in chosen for metric in metrics)


def _cell(pair: Pair | None, of: Measure, rows: Sequence[Row], *, signed: bool) -> str:
    if pair is None:
        return "–"
    scale = 100 if of[1] == MEAN and _is_accuracy(of[0], rows) else 1
    return with_error(scale * pair[0], scale * pair[1], signed=signed)


def _explained(measures: Sequence[Measure], rows: Sequence[Row]) -> list[str]:
    """What the columns are, and why the first one is first."""
    metrics = {metric for _, metric in measures}
    words = ["bits per byte: of the right answers, mean over the tasks, lower is better"] * (BITS in metrics)
    words += ["accuracy: mean over the tasks in %"] * any(
        metric == MEAN and _is_accuracy(suite, rows) for suite, metric in measures
    )
    words += ["held-out loss: nats a token on held-out documents, lower is better"] * (LOSS in measures)
    lines = ["; ".join([*words, "± one standard error"])]
    if {BITS, MEAN} <= metrics:
        lines.append(why_leading([r.parameters for r in rows], max(len(r.tasks.metrics) for r in rows)))
    return lines


def _find(scores: Iterable[Mapping[str, Any]], task: str, metric: str) -> Pair | None:
    for score in scores:
        if score["task"] == task and score["metric"] == metric:
            return score["value"], score["stderr"]
    return None
