"""The order of checkpoints in sentences: the cheapest score that gives it, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sweep.analysis.outcomes import Outcome
from sweep.analysis.ranking import AS_IS, ENOUGH, DecisionAccuracy, Ranking, Recommendation
from sweep.analysis.wording import capital, words

FEWEST_PAIRS = 3
"""Pairs that cheaper scores are judged by."""


def ranking_sentences(ranking: Ranking, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """For each outcome: the order before and after the longest anneal, and how to get it cheaply.

    `outcomes` has all outcomes by their names.
    """
    for outcome in dict.fromkeys(place.outcome for place in ranking.places):
        yield _orders(ranking, outcomes[outcome])
    for recommendation in ranking.recommendations:
        yield " ".join([recommended(recommendation, outcomes), *_beside(recommendation, outcomes)])


def recommended(recommendation: Recommendation, outcomes: Mapping[str, Outcome]) -> str:
    """The cheapest score that orders the checkpoints as the longest anneal does, in a sentence."""
    chosen = recommendation.chosen
    total = chosen.pairs + chosen.ties
    if chosen.pairs < FEWEST_PAIRS:
        return (
            f"{capital(words(outcomes[chosen.reference]))}: {chosen.pairs} of {total} pairs can be told apart after"
            f" {_named(chosen.longest)}, too few to say which cheaper score gives their order."
        )
    reference, seen = words(outcomes[chosen.reference]), words(outcomes[chosen.outcome])
    order = f"{_percent(chosen)} of the pairs of {chosen.candidates} checkpoints as {reference} does after"
    if chosen.anneal == AS_IS:
        text = f"without annealing, {seen} orders {order} {_named(chosen.longest)}."
    else:
        text = f"anneal with {chosen.anneal} and look at {seen}: it orders {order} {_named(chosen.longest)}, at"
        text += f" {chosen.cost_percent:.2g} % of the cost."
    if chosen.accuracy < ENOUGH:
        text = f"no cheaper score gives {100 * ENOUGH:.0f} % of the order. The nearest: {text}"
    return capital(text)


def _beside(recommendation: Recommendation, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """What a recommendation is to be compared with, and how far it can be trusted."""
    chosen, as_is = recommendation.chosen, recommendation.as_is
    if chosen.pairs < FEWEST_PAIRS:
        return
    if as_is is not None and (as_is.anneal, as_is.outcome) != (chosen.anneal, chosen.outcome):
        yield f"As they are, {words(outcomes[as_is.outcome])} orders {_percent(as_is)}."
    if recommendation.checked is not None and recommendation.scores > 1:
        yield (
            f"If the choice among these {recommendation.scores} scores is made without a checkpoint,"
            f" {100 * recommendation.checked:.0f} % of that one's pairs are in order."
        )
    if chosen.ties:
        total = chosen.pairs + chosen.ties
        yield f"{chosen.ties} of {total} pairs can't be told apart even after the longest anneal, and don't count."


def _orders(ranking: Ranking, outcome: Outcome) -> str:
    places = [place for place in ranking.places if place.outcome == outcome.name]
    best, after = places[0], f"after {_named(places[0].longest)}"
    if all(place.alike == len(places) - 1 for place in places):
        return f"{capital(words(outcome))}: no two of {len(places)} checkpoints can be told apart {after}."
    text = f"{capital(words(outcome))}: of {len(places)} checkpoints {best.candidate} is the best {after}"
    text += f", and can't be told apart from {best.alike} others" if best.alike else ""
    return f"{text}; as it is it has place {best.place_as_is:.0f}."


def _named(anneal: str) -> str:
    return f"the longest anneal ({anneal})" if anneal else "the anneal"


def _percent(decision: DecisionAccuracy) -> str:
    return f"{100 * decision.accuracy:.0f} % (95 % interval {100 * decision.low:.0f} to {100 * decision.high:.0f} %)"
