"""The Markdown notes MLflow shows on top of a run's page and of its sweep's (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sweep.tracking.facts import means
from sweep.tracking.journal import Events

HELD_OUT = "heldout"
WHENS = ("before", "after", "delta")


def run_note(events: Events, folder: Path) -> str:
    """What the run was, what came out, where its files are, and the command that repeats it."""
    last = events.attempts[-1]
    lines = [f"**{last['name']}** of sweep `{last['sweep']}`: {_said(events)}", ""]
    rows = list(_score_rows(events))
    if rows:
        lines += _table(("task", "metric", "documents", "before", "after", "delta"), rows)
    lines += [f"Files: `{folder}` on {last['host']}", "", "Again:", "```", last["command"], "```"]
    return "\n".join(lines)


def sweep_note(name: str, runs: Iterable[Events]) -> str:
    """The table of a sweep's points, best validation loss first, and what failed and why."""
    runs = sorted(runs, key=lambda run: (_value(run, "after", "loss"), run.attempts[-1]["name"]))
    words = [_word(run) for run in runs]
    counts = ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))
    columns = ("point", "mean before", "after", "delta", "validation loss before", "after", "delta", "status")
    lines = [f"**Sweep `{name}`**: {len(runs)} points, {counts}", "", *_table(columns, map(_point_row, runs))]
    for run in runs:
        if run.outcome is not None and run.outcome["error"]:
            lines += [f"- {run.attempts[-1]['name']}: {run.outcome['status']}: {_line(run.outcome['error'])}"]
    return "\n".join(lines)


def _said(events: Events) -> str:
    attempts = len(events.attempts)
    return f"{_word(events)}, {len(events.steps)} updates" + (f", {attempts} attempts" if attempts > 1 else "")


def _word(events: Events) -> str:
    return "no outcome yet" if events.outcome is None else events.outcome["status"]


def _score_rows(events: Events) -> Iterator[tuple[str, ...]]:
    """A row a task and metric, aggregates and held-out text first; of other tasks the metric chosen for each."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for when, scores in events.scores.items():
        for score in scores:
            found.setdefault((score["task"], score["metric"]), {})[when] = score
    first = [of for of in found if of[1].startswith("mean")] + [of for of in found if of[0] == HELD_OUT]
    chosen = _chosen(events)
    for of in dict.fromkeys([*first, *found]):
        if of in first or not chosen or chosen.get(of[0].partition(":")[0]) == of[1]:
            yield *of, str(next(iter(found[of].values()))["documents"]), *_cells(found[of])


def _chosen(events: Events) -> dict[str, str]:
    """Task -> the metric that enters its suite's mean."""
    split = {key.partition(".metrics."): value for key, value in events.attempts[-1]["params"].items()}
    return {task: metric for (suite, _, task), metric in split.items() if task and suite.startswith("tasks.suites.")}


def _point_row(run: Events) -> tuple[str, ...]:
    """A point's aggregate and its loss on held-out text."""
    found = ({when: score for when in WHENS if (score := _score(run, when, metric))} for metric in ("mean", "loss"))
    return run.attempts[-1]["name"], *(cell for scores in found for cell in _cells(scores)), _word(run)


def _cells(scores: dict[str, dict[str, Any]]) -> tuple[str, str, str]:
    """Before, after, and delta with its standard error (paired, so it is the one that counts)."""
    before, after = (f"{scores[when]['value']:.4f}" if when in scores else "" for when in WHENS[:2])
    delta = scores.get("delta")
    return before, after, "" if delta is None else f"{delta['value']:+.4f} ± {delta['stderr']:.4f}"


def _score(run: Events, when: str, metric: str) -> dict[str, Any] | None:
    """A run's first aggregate ("mean"), or a score of its held-out text."""
    scores = run.scores.get(when, [])
    if metric == "mean":
        return next(iter(means(scores)), None)
    return next((s for s in scores if s["task"] == HELD_OUT and s["metric"] == metric), None)


def _value(run: Events, when: str, metric: str) -> float:
    score = _score(run, when, metric)
    return float("inf") if score is None else score["value"]


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    # MLflow's page gives cells no margin: wide headers keep the numbers apart.
    lines = [tuple(f"{column}&emsp;&emsp;" for column in columns), (":---",) * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines] + [""]


def _line(text: str) -> str:
    """The last line of an error, which says what it was."""
    return text.strip().rsplit("\n", 1)[-1][:300]
