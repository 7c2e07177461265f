"""Pictures of a table of trainings: scores as saved and as annealed, as in Figure 1 of the OLMo paper."""

from __future__ import annotations

from collections.abc import Iterator

from sweep.analysis.outcomes import Outcome
from sweep.analysis.training_tables import TableAnswers
from sweep.analysis.wording import capital, count, level_unit, number, unit, words
from sweep.page.charts import Chart, Point, Series

MOST_CHARTS = 12


def as_saved_and_annealed(answers: TableAnswers) -> list[Chart]:
    """Over tokens, a chart for each outcome, the primary ones first; with the predicted losses where a law fits."""
    outcomes = list(dict.fromkeys([*answers.primary, *answers.table.outcomes]))[:MOST_CHARTS]
    return [
        Chart(
            title=capital(words(outcome)),
            at="tokens at the checkpoint",
            value=level_unit(outcome) or outcome.metric,
            series=[*_annealed(answers, outcome), *_as_saved(answers, outcome), *_predicted(answers, outcome)],
            log=True,
        )
        for outcome in outcomes
    ]


def _annealed(answers: TableAnswers, outcome: Outcome) -> Iterator[Series]:
    """For each training the ends of its anneals, over the tokens where they began."""
    factor = unit(outcome)[0]
    for training in answers.table.trainings:
        points = []
        for anneal in (a for a in answers.table.anneals if a.training == training):
            measured = factor * anneal.rows[outcome.name].dropna()
            if len(measured):
                tokens, end = float(anneal.rows["tokens"].iloc[0]), float(measured.iloc[-1])
                text = f"{training} {anneal.checkpoint}, {anneal.anneal}, from {count(tokens)} tokens: {number(end)}"
                points.append(Point(tokens, end, text))
        yield Series(f"{training} annealed", sorted(points, key=lambda point: float(point.at)))


def _as_saved(answers: TableAnswers, outcome: Outcome) -> Iterator[Series]:
    """For each training its scores without an anneal."""
    factor = unit(outcome)[0]
    for place, (training, rows) in enumerate(answers.table.trainings.items()):
        known = rows.dropna(subset=[outcome.name])
        scores = zip(known["checkpoint"], known["tokens"].astype(float), factor * known[outcome.name], strict=True)
        points = [Point(at, float(v), f"{training} {name} as saved: {number(float(v))}") for name, at, v in scores]
        yield Series(f"{training} as saved", points, "curve", like=place)


def _predicted(answers: TableAnswers, outcome: Outcome) -> Iterator[Series]:
    """For each training and kind of anneal the predicted scores in their intervals."""
    factor = unit(outcome)[0]
    for place, training in enumerate(answers.table.trainings):
        for kind in answers.table.kinds():
            points = [
                Point(p.tokens, factor * p.value, f"{training}, {kind}, predicted: {number(p.value, p.high - p.value)}",
                      factor * p.low, factor * p.high)
                for p in answers.predictions
                if (p.outcome, p.training, p.anneal) == (outcome.name, training, kind)
            ]  # fmt: skip
            if points:
                yield Series(f"{training} predicted", points, "band", like=place)
