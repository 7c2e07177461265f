"""What a table of trainings shows, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np

from sweep.analysis.findings import CHECKPOINTS, HELPED, OTHERS, RUNS
from sweep.analysis.gains import BETTER, WORSE
from sweep.analysis.opening import Opening
from sweep.analysis.outcomes import Outcome
from sweep.analysis.ranking_findings import ranking_sentences, recommended
from sweep.analysis.training_tables import CHECKPOINT, SAME_STEP, AnnealGain, TableAnswers
from sweep.analysis.wording import amount, capital, listed, number, unit, words

AGAINST = {CHECKPOINT: "the checkpoint that they began at", SAME_STEP: "their training at the same step"}
"""What an anneal is compared with -> the words for it."""
TABLES_OF = {HELPED: ("gains",), CHECKPOINTS: ("places", "orders"), OTHERS: ("laws", "predictions")}
"""Question -> the tables from which it is answered."""


def table_findings(answers: TableAnswers) -> dict[str, list[str]]:
    """The sentences that answer each question; none where the table allows no answer."""
    outcomes = {outcome.name: outcome for outcome in answers.table.outcomes}
    return {
        HELPED: list(_helped(answers)),
        CHECKPOINTS: list(ranking_sentences(answers.ranking, outcomes)),
        OTHERS: list(_laws(answers)),
        RUNS: [_runs(answers)],
    }


def table_opening(answers: TableAnswers) -> Opening:
    """The first sentences: what annealing gained by the first outcome, the order of checkpoints, and how sure it is."""
    outcomes = {outcome.name: outcome for outcome in answers.table.outcomes}
    first = next(iter(answers.primary))
    gains = [gain for gain in answers.gains if gain.outcome == first.name]
    sentences = [_gained(first, [gain for gain in gains if gain.against == SAME_STEP])] if gains else []
    ranked = (r for r in answers.ranking.recommendations if r.chosen.reference == first.name)
    sentences += [recommended(r, outcomes) for r in ranked]
    sentences += list(islice(chain(_laws(answers), _untested(answers)), 2))
    return Opening(tuple(sentences) or (_runs(answers),), None)


def _helped(answers: TableAnswers) -> Iterator[str]:
    for outcome in answers.primary:
        for against in AGAINST:
            if gains := [g for g in answers.gains if (g.outcome, g.against) == (outcome.name, against)]:
                yield _gained(outcome, gains)
    yield from _untested(answers)


def _gained(outcome: Outcome, gains: Sequence[AnnealGain]) -> str:
    """How many of these anneals are better, and by how much; all are compared with the same thing."""
    deltas = np.array([outcome.sign * gain.delta for gain in gains])
    factor = unit(outcome)[0]
    low, high = (number(factor * float(value)) for value in (deltas.min(), deltas.max()))
    text = f"{capital(words(outcome))}: {sum(g.improves for g in gains)} of {len(gains)} anneals are better than"
    text += f" {AGAINST[gains[0].against]}, by {amount(outcome, float(deltas.mean()))} on average ({low} to {high})."
    if any(gain.verdict for gain in gains):
        better, worse = (sum(gain.verdict == verdict for gain in gains) for verdict in (BETTER, WORSE))
        text += f" By their standard errors {better} are better and {worse} are worse."
    return text


def _untested(answers: TableAnswers) -> Iterator[str]:
    if answers.gains and not any(gain.verdict for gain in answers.gains):
        yield "The table has no standard errors, so no difference is tested, and no two checkpoints count as tied."


def _laws(answers: TableAnswers) -> Iterator[str]:
    primary = {outcome.name: outcome for outcome in answers.primary}
    for law in (law for law in answers.laws if law.outcome in primary):
        text = f"{capital(words(primary[law.outcome]))} after {law.anneal!r} falls along {law.trainings} trainings as a"
        text += f" power law with the exponent {law.alpha:.2g}, within {law.residual_sd:.2g} nats."
        if law.cross_validation_error is not None:
            text += " From the earlier anneals it predicts each training's last one within"
            text += f" {law.cross_validation_error:.2g} nats (root mean square)."
        yield text


def _runs(answers: TableAnswers) -> str:
    table = answers.table
    scored = sum(map(len, table.trainings.values()))
    kinds = [f"{kind!r} ({sum(anneal.anneal == kind for anneal in table.anneals)})" for kind in table.kinds()]
    trainings = f"{len(table.trainings)} trainings ({listed(list(table.trainings))}), {scored} times scored as they are"
    return f"{trainings}; {len(table.anneals)} anneals: {listed(kinds)}."
