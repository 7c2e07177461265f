"""Writes the notes, in Markdown, that MLflow shows at the top of a run's page and of a sweep's page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.domain.digits import alone, with_error
from sweep.planning.measures import BITS, MEAN, why_leading
from sweep.tracking.axes import axes
from sweep.tracking.events import Events, lost_lines, run_names
from sweep.tracking.markdown import block, code, text
from sweep.tracking.mlflow_values import score_points
from sweep.tracking.shown_scores import ELSEWHERE, WHENS, chosen_metrics, shown
from sweep.tracking.view import lower_is_better, outcomes

Named = dict[str, float]
"""Metric -> value, as MLflow has them."""


def run_note(events: Events, folder: Path) -> str:
    """The note of a run: its scores, where it started, where its files are, and the command that repeats it."""
    last = events.attempts[-1]
    lines = [
        f"**{text(last['name'])}** of sweep {code(last['sweep'])}: {_progress(events)}",
        "",
        *_summary(events),
        *_origin(events),
    ]
    if events.outcome is not None and events.outcome["error"]:
        lines += [f"Why: {_line(events.outcome['error'])}", ""]
    rows = list(_score_rows(events))
    if rows:
        lines += [*_table(("task", "metric", "documents", "before", "after", "delta"), rows), ELSEWHERE, ""]
    if events.lost:
        lines += [f"{lost_lines(events)}.", ""]
    lines += [f"Files: {code(folder)} on {text(last['host'])}", "", "Again:", block(last["command"])]
    return "\n".join(lines)


def sweep_note(name: str, runs: Iterable[Events]) -> str:
    """The note of a sweep: what it varied, what failed and why, and a table of its runs, the best first."""
    runs = list(runs)
    measured, varied = outcomes(runs), axes(runs)
    values = {id(run): {point.name: point.value for point in score_points(run)} for run in runs}
    runs.sort(key=lambda run: (_rank(values[id(run)], measured), run.attempts[-1]["name"]))
    words = [_word(run) for run in runs]
    names = dict(zip(map(id, runs), run_names(runs), strict=True))
    counts = ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
    lines = [f"**Sweep {code(name)}**: {len(runs)} points, {counts}", "", *_why(runs)]
    lines += [f"- {code(axis)}: {text(', '.join(map(_level, levels)))}" for axis, levels in varied.items()] + [""]
    lines += [f"- {text(names[id(run)])}: {_word(run)}{_reason(run)}" for run in runs if _word(run) != "finished"]
    titles = dict.fromkeys(metric.partition("/")[2] for metric in measured)
    columns = ["point"]
    for title in titles:
        columns += [f"{title}{_direction(title)} before", *WHENS[1:]]
    rows = (_point_row(run, names[id(run)], values[id(run)], list(titles)) for run in runs)
    return "\n".join([*lines, "", *_table((*columns, "tokens", "status"), rows)])


def _progress(events: Events) -> str:
    attempts = len(events.attempts)
    return f"{_word(events)}, {len(events.steps)} updates" + (f", {attempts} attempts" if attempts > 1 else "")


def _summary(events: Events) -> list[str]:
    """The main scores in a few lines; the page shows only these until the note is opened."""
    values = {point.name: point.value for point in score_points(events)}
    lines = []
    for title in dict.fromkeys(name.partition("/")[2] for name in outcomes([events])):
        if len(_measured(values, title)) == len(WHENS):  # a damaged line of the journal may have held some
            before, after, delta = _cells(_measured(values, title))
            lines += [f"{code(title)}{_direction(title)}: {before} → {after}, {delta}", ""]
    return [*lines, *_why([events])]


def _why(runs: Sequence[Events]) -> list[str]:
    """Why the first of the suites' measures is first; nothing if there is only one."""
    if not {MEAN, BITS} <= {name.rpartition(".")[2].rpartition("/")[2] for name in outcomes(runs)}:
        return []
    params = [run.attempts[-1]["params"] for run in runs]
    tasks = max(len(chosen_metrics(chosen)) for chosen in params)
    return [why_leading([chosen.get("model.parameters") for chosen in params], tasks), ""]


def _direction(title: str) -> str:
    return " (lower is better)" * lower_is_better(title)


def _word(events: Events) -> str:
    return "no outcome yet" if events.outcome is None else events.outcome["status"]


def _reason(run: Events) -> str:
    """Why a run failed, or on which machine one without an outcome is."""
    if run.outcome is None:
        return f" on {text(run.attempts[-1]['host'])}"
    return f": {_line(run.outcome['error'])}" if run.outcome["error"] else ""


def _origin(events: Events) -> list[str]:
    """The checkpoint and the data; nothing if the run has not got that far."""
    if events.inputs is None:
        return []
    checkpoint, window = events.inputs["checkpoint"], events.inputs["window"]
    lines = [
        f"From: {code(checkpoint['name'])} at step {checkpoint['step']:,}, {checkpoint['tokens']:,} tokens, learning "
        f"rate {checkpoint['lr']:g} ({code(checkpoint['uri'])}, digest `{checkpoint['digest']}`)",
        "",
    ]
    for data in events.inputs["data"]:
        lines += [
            f"On: {data['annealed_on']:,} of {data['instances']:,} instances of {window['sequence_length']:,} tokens "
            f"of {code(data['name'])} from instance {window['first_instance']:,} of epoch {window['epoch']}, "
            f"{window['batch_size']:,} an update ({code(data['uri'])}, digest `{data['digest']}`)",
            "",
        ]
    return lines


def _score_rows(events: Events) -> Iterator[tuple[str, ...]]:
    """A row for each task; means and held-out text first."""
    by_task: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for when, score in shown(events):
        by_task.setdefault((score["task"], score["metric"]), {})[when] = score
    for of, scores in by_task.items():
        values = {when: (score["value"], score["stderr"]) for when, score in scores.items()}
        yield *of, str(next(iter(scores.values()))["documents"]), *_cells(values)


def _point_row(run: Events, name: str, measured: Named, titles: Sequence[str]) -> tuple[str, ...]:
    """A run's row in the table of its sweep."""
    cells = [name]
    for title in titles:
        cells += _cells(_measured(measured, title))
    tokens = measured.get("cost/tokens")
    return *cells, "" if tokens is None else f"{tokens:,.0f}", _word(run)


def _measured(values: Named, title: str) -> dict[str, tuple[float, float]]:
    """When -> value and standard error of an outcome, as far as MLflow has them."""
    names = {when: (f"{when}/{title}", f"stderr/{when}/{title}") for when in WHENS}
    return {when: (values[of], values[error]) for when, (of, error) in names.items() if of in values}


def _cells(values: dict[str, tuple[float, float]]) -> tuple[str, str, str]:
    """Before, after, and delta with its standard error, which is the paired one."""
    before, after = (alone(*values[when]) if when in values else "" for when in WHENS[:2])
    return before, after, with_error(*values["delta"], signed=True) if "delta" in values else ""


def _rank(measured: Named, columns: Sequence[str]) -> float:
    """Sorting key, the best first: the first outcome of which less is better, as in the view, else the first one."""
    after = [name for name in columns if name.startswith("after/")]
    first = next((name for name in after if lower_is_better(name)), next(iter(after), ""))
    if first not in measured:
        return float("inf")
    return measured[first] if lower_is_better(first) else -measured[first]


def _level(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    # MLflow's page gives cells no margin; spaces in the headers keep the numbers apart.
    heads = tuple(f"{text(column)}&emsp;&emsp;" for column in columns)
    lines = [heads, (":---",) * len(columns), *(tuple(map(text, row)) for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def _line(error: str) -> str:
    """The last line of an error, which names it."""
    return text(error.strip().rsplit("\n", 1)[-1][:300])
