"""The table at the end of a sweep: first its rows, from configurations and outcomes, then its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config import Tasks
from sweep.config.tasks import ACCURACIES
from sweep.domain.digits import with_error
from sweep.planning.measures import BITS, MEAN, leading, means_of, why_leading
from sweep.planning.names import label
from sweep.sweeps.text_table import aligned

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
    """finished, failed, interrupted, running, unreadable or not started."""
    parameters: int | None
    """Of the model; None: not known."""
    tasks: Tasks
    figures: dict[Measure, dict[str, Pair | None]]
    """For each measure "before", "after", "delta", and VERSUS: after, less that of the matched control."""
    tokens: int | None
    seconds: float | None


def measures(tasks: Tasks) -> list[Measure]:
    """What is shown of runs that are scored on these tasks."""
    means = [(name, metric) for name, suite in tasks.suites.items() for metric in means_of(suite.metrics)]
    return means + [LOSS] * tasks.heldout


def column(of: Measure, when: str, limit: int | None) -> str:
    """The score's column in the table of outcomes."""
    return f"{when}/{of[1]}/{label(of[0], limit)}"


def row(
    tasks: Tasks,
    parameters: int | None,
    name: str,
    outcome: Mapping[str, Any] | None,
    beyond: Iterable[Mapping[str, Any]] = (),
) -> Row:
    """The row of a run under its name, from its row in the table of outcomes; None: it has no journal.

    `parameters` are those of its model, None where nobody states them. `beyond` are the scores of its difference to the
    matched control.
    """
    known, (checkpoint, _, anneal) = dict(outcome or {}), name.partition(" ")
    for score in beyond:
        columns = f"{VERSUS}/{score['metric']}/{score['task']}"
        known |= {columns: score["value"], f"stderr/{columns}": score["stderr"]}
    limit = tasks.limit
    return Row(
        checkpoint=checkpoint,
        anneal=anneal,
        state=known.get("status", "not started"),
        parameters=parameters,
        tasks=tasks,
        figures={of: {when: _pair(known, column(of, when, limit)) for when in WHENS} for of in measures(tasks)},
        tokens=known.get("cost/tokens"),
        seconds=known.get("cost/seconds"),
    )


def _pair(known: Mapping[str, Any], name: str) -> Pair | None:
    return None if known.get(name) is None else (known[name], known[f"stderr/{name}"])


def draw(title: str, rows: Sequence[Row]) -> str:
    """The table as text, as wide as its columns need."""
    compared = any(figures[VERSUS] for r in rows for figures in r.figures.values())
    shown = _measures(rows)
    columns = [column for of in shown for column in _columns(of, is_first=of == shown[0], compared=compared)]
    headings = [f"{_title(of, rows)} {when}" if heading else when for (of, when), heading in columns]
    scales = {of: _scale(of, rows) for of in shown}
    lines = [("checkpoint", "anneal", *headings, "tokens", "seconds")]
    lines += [tuple(_cells(r, [place for place, _ in columns], scales)) for r in rows]
    explained = [*_explained(shown, rows), *([VERSUS_NOTE] if compared else [])]
    return "\n".join((f"sweep {title}", *aligned(lines, left=2), *explained, ""))


def _cells(r: Row, places: Iterable[tuple[Measure, str]], scales: Mapping[Measure, int]) -> Iterator[str]:
    """The row's text for each column."""
    yield r.checkpoint
    yield r.anneal if r.state == "finished" else f"{r.anneal} ({r.state})"
    for of, when in places:
        yield _cell(r.figures.get(of, {}).get(when), scales[of], signed=when in SIGNED)
    yield "–" if r.tokens is None else f"{r.tokens / 1e6:.2f}M" if r.tokens else "0"
    yield "–" if r.seconds is None else f"{r.seconds:.0f}"


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


def _scale(of: Measure, rows: Sequence[Row]) -> int:
    return 100 if of[1] == MEAN and _is_accuracy(of[0], rows) else 1


def _cell(pair: Pair | None, scale: int, *, signed: bool) -> str:
    return "–" if pair is None else with_error(scale * pair[0], scale * pair[1], signed=signed)


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
