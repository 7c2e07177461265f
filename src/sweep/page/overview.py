"""Pictures of the whole sweep: checkpoints as saved and annealed, which axis matters, which task separates settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sweep.analysis.answers import Answers
from sweep.analysis.checkpoints import CheckpointScores
from sweep.analysis.effects import MATTERS, Effect
from sweep.analysis.gains import Z
from sweep.analysis.opening import leading_first
from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import THRESHOLD
from sweep.analysis.wording import capital, count, level_unit, number, unit, words
from sweep.page.charts import Chart, Point, Series

MOST_TERMS, MOST_TASKS, FEW_CHECKPOINTS = 12, 24, 2
REFERENCES: dict[str, dict[str, float]] = {
    "OLMo-1B": {"arc_challenge": 34.5, "arc_easy": 58.1, "boolq": 60.7, "hellaswag": 62.5, "openbookqa": 46.4}
    | {"piqa": 73.7, "sciq": 88.1, "winogrande": 58.9, "mean": 60.4},
    "OLMo-7B annealed": {"arc_challenge": 48.5, "arc_easy": 65.4, "boolq": 73.4, "hellaswag": 76.4}
    | {"openbookqa": 50.4, "piqa": 78.4, "sciq": 93.8, "winogrande": 67.9, "mean": 69.3},
}
"""Scores in % by the protocol of core8-olmo1: Table 3 of the OLMo paper (arXiv 2402.00838)."""


def checkpoints(answers: Answers) -> list[Chart]:
    """Scores as saved and annealed: over tokens seen as in Figure 1 of the OLMo paper, or of one or two by task."""
    of_outcome: dict[str, list[CheckpointScores]] = {}
    for scores in answers.checkpoints:
        of_outcome.setdefault(scores.outcome, []).append(scores)
    outcomes = sorted((o for o in answers.outcomes if o.name in of_outcome), key=lambda o: [*of_outcome].index(o.name))
    if all(len(scores) <= FEW_CHECKPOINTS for scores in of_outcome.values()):
        return _by_task(outcomes, of_outcome)
    return [_over_tokens(answers, outcome, of_outcome[outcome.name]) for outcome in outcomes]


def _by_task(outcomes: Sequence[Outcome], of_outcome: Mapping[str, Sequence[CheckpointScores]]) -> list[Chart]:
    """One chart for each unit, with a row for each outcome."""
    charts = []
    for label in dict.fromkeys(level_unit(outcome) for outcome in outcomes):
        rows = [outcome for outcome in outcomes if level_unit(outcome) == label]
        names = list(dict.fromkeys(s.checkpoint for o in rows for s in of_outcome[o.name]))
        tasks = _short_names([outcome.task for outcome in rows])
        series = [
            Series(
                f"{name} {when}" if len(names) > 1 else when,
                [
                    _score(o, tasks[o.task], s, annealed)
                    for o in rows
                    for s in of_outcome[o.name]
                    if s.checkpoint == name
                ],
                quiet=not annealed,
            )
            for name in names
            for when, annealed in (("as saved", False), ("annealed", True))
        ]
        title = f"Scores in {label}" if label else "Scores"
        charts.append(Chart(title=title, at="task", value=label or "score", series=series, horizontal=True))
    return charts


def _over_tokens(answers: Answers, outcome: Outcome, scores: Sequence[CheckpointScores]) -> Chart:
    series = [
        Series(when, [_score(outcome, s.tokens, s, annealed) for s in scores], "line", quiet=not annealed)
        for when, annealed in (("as saved", False), ("annealed", True))
    ]
    return Chart(
        title=capital(words(outcome)),
        at="tokens seen in training",
        value=level_unit(outcome) or outcome.metric,
        series=series,
        marks=_references(answers, outcome),
    )


def _score(outcome: Outcome, at: float | str, scores: CheckpointScores, annealed: bool) -> Point:
    factor = unit(outcome)[0]
    value, error = (scores.annealed, scores.annealed_stderr) if annealed else (scores.raw, scores.raw_stderr)
    value, half = factor * value, factor * Z * error
    how = f"annealed: {scores.run}" if annealed else f"as saved, {count(scores.tokens)} tokens"
    text = f"{scores.checkpoint}, {how}\n{outcome.name}: {number(value, half)} {level_unit(outcome)}"
    return Point(at, value, text, value - half, value + half)


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """Names of outcomes or tasks -> those without the number of documents, where that leaves them apart."""
    short = {name: name.partition(":")[0] for name in names}
    return {name: text if list(short.values()).count(text) == 1 else name for name, text in short.items()}


def effects(answers: Answers) -> list[Chart]:
    """The share of each axis and interaction in the variance of the gain, with the noise floor of each bar."""
    of_outcome = {
        capital(words(o)): [e for e in answers.effects if e.outcome == o.name] for o in leading_first(answers)
    }
    return effect_bars(of_outcome, of="the gain")


def effect_bars(of_outcome: Mapping[str, Sequence[Effect]], *, of: str) -> list[Chart]:
    """The same for any effects on `of`, a chart for each outcome."""
    charts = []
    for name, effects in of_outcome.items():
        largest = sorted(effects, key=lambda e: -e.share_percent)[:MOST_TERMS]
        bars: dict[bool, list[Point]] = {True: [], False: []}
        for effect in largest:
            text = f"{_term(effect)}: {effect.share_percent:.1f} %, {effect.verdict}"
            bars[effect.verdict == MATTERS].append(Point(_term(effect), effect.share_percent, text))
        floors = [
            Point(_term(e), e.floor_percent, f"noise stays below {e.floor_percent:.1f} %")
            for e in largest
            if e.floor_percent is not None
        ]
        series = [
            Series("matters", bars[True], "bars"),
            Series("not above the noise" if floors else "noise is unknown", bars[False], "bars", quiet=True),
            Series("noise stays below, 95 %", floors),
        ]
        if largest:
            shown = [s for s in series if s.points]
            label = f"share of the variance of {of} (%)"
            order = [_term(effect) for effect in largest]
            charts.append(Chart(title=name, at="axis", value=label, series=shown, horizontal=True, order=order))
    return charts


def _term(effect: Effect) -> str:
    return effect.term.replace("anneal.", "").replace(":", " × ")


def signal_to_noise(answers: Answers) -> list[Chart]:
    """The signal-to-noise ratio of every outcome, with the line above which ranks mean something."""
    names = _short_names([outcome.name for outcome in answers.outcomes])
    known = [(task.ratio, task) for task in answers.tasks if task.ratio is not None and np.isfinite(task.ratio)]
    best = sorted(known, key=lambda pair: -pair[0])[:MOST_TASKS]
    series = []
    for name, separates in (("tells settings apart", True), ("does not", False)):
        points = [
            Point(names[task.outcome], ratio, f"{task.outcome}: {ratio:.2g}")
            for ratio, task in best
            if bool(task.separates) == separates
        ]
        series += [Series(name, points, "bars", quiet=not separates)] if points else []
    if not series:
        return []
    some = f" (the best {len(best)} of {len(known)})" if len(best) < len(known) else ""
    return [
        Chart(
            title=f"Signal-to-noise of the gain{some}",
            at="outcome",
            value="spread of settings / spread of seeds",
            series=series,
            horizontal=True,
            order=[names[task.outcome] for _, task in best],
            marks=[(THRESHOLD, "1")],
        )
    ]


def _references(answers: Answers, outcome: Outcome) -> list[tuple[float, str]]:
    """The scores of the paper if the task's scores are of its protocol."""
    if "tasks.suites.core8-olmo1.protocol" not in answers.runs or outcome.metric == "mean_above_chance":
        return []
    if not outcome.metric.startswith(("acc", "mean")) or "bits" in outcome.metric:
        return []
    task = "mean" if outcome.metric == "mean" else outcome.task
    return [(scores[task], name) for name, scores in REFERENCES.items() if task in scores]
