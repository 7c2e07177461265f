"""The Markdown notes MLflow shows on top of a run's page and of its sweep's (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.tracking.axes import axes
from sweep.tracking.events import Events
from sweep.tracking.mlflow_values import score_points
from sweep.tracking.shown_scores import ELSEWHERE, WHENS, shown
from sweep.tracking.view import outcomes

Named = dict[str, float]
"""Metric -> value, as MLflow has it."""


def run_note(events: Events, folder: Path) -> str:
    """What the run was, what came out, where its files are, and the command that repeats it."""
    last = events.attempts[-1]
    lines = [f"**{last['name']}** of sweep `{last['sweep']}`: {_said(events)}", "", *_summary(events), *_origin(events)]
    if events.outcome is not None and events.outcome["error"]:
        lines += [f"Why: {_line(events.outcome['error'])}", ""]
    rows = list(_score_rows(events))
    if rows:
        lines += [*_table(("task", "metric", "documents", "before", "after", "delta"), rows), ELSEWHERE, ""]
    lines += [f"Files: `{folder}` on {last['host']}", "", "Again:", "```", last["command"], "```"]
    return "\n".join(lines)


def sweep_note(name: str, runs: Iterable[Events]) -> str:
    """What a sweep varied, what failed and why, and the table of its points, best first."""
    runs = list(runs)
    measured, varied = outcomes(runs), axes(runs)
    found = {id(run): {point.name: point.value for point in score_points(run)} for run in runs}
    runs.sort(key=lambda run: (_rank(found[id(run)], measured), run.attempts[-1]["name"]))
    words = [_word(run) for run in runs]
    counts = ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
    lines = [f"**Sweep `{name}`**: {len(runs)} points, {counts}", ""]
    lines += [f"- `{axis}`: {', '.join(map(_level, levels))}" for axis, levels in varied.items()] + [""]
    lines += [f"- {run.attempts[-1]['name']}: {_word(run)}{_reason(run)}" for run in runs if _word(run) != "finished"]
    titles = dict.fromkeys(metric.partition("/")[2] for metric in measured)
    columns = ["point", *(f"{title} {when}" if when == "before" else when for title in titles for when in WHENS)]
    rows = (_point_row(run, found[id(run)], list(titles)) for run in runs)
    return "\n".join([*lines, "", *_table((*columns, "tokens", "status"), rows)])


def _said(events: Events) -> str:
    attempts = len(events.attempts)
    return f"{_word(events)}, {len(events.steps)} updates" + (f", {attempts} attempts" if attempts > 1 else "")


def _summary(events: Events) -> list[str]:
    """What came out in a line or two, which is all of the note that the page shows before one asks for more."""
    found = {point.name: point.value for point in score_points(events)}
    lines = []
    for title in dict.fromkeys(name.partition("/")[2] for name in outcomes([events])):
        if f"delta/{title}" in found:
            before, after, delta = (found[f"{when}/{title}"] for when in WHENS)
            error = found[f"stderr/delta/{title}"]
            lines += [f"`{title}`: {before:.4f} → {after:.4f}, {delta:+.4f} ± {error:.4f}", ""]
    return lines


def _word(events: Events) -> str:
    return "no outcome yet" if events.outcome is None else events.outcome["status"]


def _reason(run: Events) -> str:
    """Why a run has no result, or where it is at work."""
    if run.outcome is None:
        return f" on {run.attempts[-1]['host']}"
    return f": {_line(run.outcome['error'])}" if run.outcome["error"] else ""


def _origin(events: Events) -> list[str]:
    """The checkpoint and the data, as far as the run has come to them."""
    if events.inputs is None:
        return []
    checkpoint, window = events.inputs["checkpoint"], events.inputs["window"]
    lines = [
        f"From: `{checkpoint['name']}` at step {checkpoint['step']:,}, {checkpoint['tokens']:,} tokens, learning rate "
        f"{checkpoint['lr']:g} (`{checkpoint['uri']}`, digest `{checkpoint['digest']}`)",
        "",
    ]
    for data in events.inputs["data"]:
        lines += [
            f"On: {data['annealed_on']:,} of {data['instances']:,} instances of {window['sequence_length']:,} tokens "
            f"of `{data['name']}` from instance {window['first_instance']:,} of epoch {window['epoch']}, "
            f"{window['batch_size']:,} an update (`{data['uri']}`, digest `{data['digest']}`)",
            "",
        ]
    return lines


def _score_rows(events: Events) -> Iterator[tuple[str, ...]]:
    """A row a task: aggregates and held-out text first."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for when, score in shown(events):
        found.setdefault((score["task"], score["metric"]), {})[when] = score
    for of, scores in found.items():
        values = {when: score["value"] for when, score in scores.items()}
        error = scores["delta"]["stderr"] if "delta" in scores else None
        yield *of, str(next(iter(scores.values()))["documents"]), *_cells(values, error)


def _point_row(run: Events, found: Named, titles: Sequence[str]) -> tuple[str, ...]:
    """A point's outcomes."""
    cells: list[str] = [run.attempts[-1]["name"]]
    for title in titles:
        values = {when: found[f"{when}/{title}"] for when in WHENS if f"{when}/{title}" in found}
        cells += _cells(values, found.get(f"stderr/delta/{title}"))
    tokens = found.get("cost/tokens")
    return *cells, "" if tokens is None else f"{tokens:,.0f}", _word(run)


def _cells(values: dict[str, float], error: float | None) -> tuple[str, str, str]:
    """Before, after, and delta with its standard error (paired, so it is the one that counts)."""
    before, after = (f"{values[when]:.4f}" if when in values else "" for when in WHENS[:2])
    return before, after, "" if "delta" not in values else f"{values['delta']:+.4f} ± {error:.4f}"


def _rank(found: Named, measured: Sequence[str]) -> float:
    """The lower the better: the loss of held-out text where there is one, else the mean's negative."""
    last = next((name for name in reversed(measured) if name.startswith("after/")), "")
    if last not in found:
        return float("inf")
    return found[last] if "loss" in last else -found[last]


def _level(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    # MLflow's page gives cells no margin: wide headers keep the numbers apart.
    lines = [tuple(f"{column}&emsp;&emsp;" for column in columns), (":---",) * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines] + [""]


def _line(text: str) -> str:
    """The last line of an error, which says what it was."""
    return text.strip().rsplit("\n", 1)[-1][:300]
