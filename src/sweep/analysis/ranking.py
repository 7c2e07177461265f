"""How often a cheap score puts two checkpoints, sizes or recipes in the same order as the longest anneal does.

The share of pairs is the decision accuracy of DataDecide (Magnusson et al. 2025, arXiv 2504.11393).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from sweep.analysis.factors import Floats

AS_IS = "as it is"
"""Stands where the name of an anneal belongs, for checkpoints that are scored without one."""
LEAST = 3
"""Candidates that an order needs: two have a single pair, which tells nothing."""
ENOUGH = 0.9
"""Decision accuracy from which a cheaper score is said to do."""
Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring:
    """The scores of all candidates by one measure, after one anneal or without one."""

    anneal: str
    """Its settings in the form of overrides, its name in a table, or AS_IS."""
    outcome: str
    sign: int
    """1 if more is better, -1 if less is better."""
    tokens: float
    """Of annealing, the mean over the candidates."""
    values: Floats
    """(K,) NaN for a candidate without a score."""
    errors: Floats
    """(K, K) standard errors of the difference between two candidates; NaN if it isn't known."""


@dataclass(frozen=True, kw_only=True)
class DecisionAccuracy:
    """How often one score orders two candidates as another outcome does after the longest anneal."""

    reference: str
    """The outcome after the longest anneal that gives the order."""
    longest: str
    """The longest anneal."""
    anneal: str
    outcome: str
    candidates: int
    """That have both scores."""
    pairs: int
    """That the reference tells apart, which are counted."""
    ties: int
    """Pairs that the reference can't tell apart at 5 %, which no score can order rightly; they are left out."""
    accuracy: float
    """Share of the pairs in the same order; a pair with equal scores counts half."""
    low: float
    """Lower end of the 95 % interval for two other candidates of the same kind."""
    high: float
    cost_percent: float
    """Tokens of this anneal in percent of those of the longest."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The cheapest score that orders the candidates well, for one outcome after the longest anneal."""

    chosen: DecisionAccuracy
    as_is: DecisionAccuracy | None
    """The same outcome as the reference's, without an anneal; None if it isn't measured."""
    scores: int
    """Among which the choice was made."""
    checked: float | None
    """Accuracy on the pairs of each candidate, chosen by the others alone; None if there are too few for that."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of one candidate in the orders by one outcome; 1 is the best, and equal scores share a place."""

    outcome: str
    candidate: str
    as_is: float
    annealed: float
    place_as_is: float
    place_annealed: float
    alike: int
    """Candidates that it can't be told apart from after the longest anneal (5 %)."""
    longest: str
    """The anneal after which `annealed` was measured."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All that is known of the order of the candidates."""

    places: tuple[Place, ...] = ()
    decisions: tuple[DecisionAccuracy, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()


def rank(
    candidates: Sequence[str], scorings: Sequence[Scoring], references: Sequence[str], choices: Sequence[str]
) -> Ranking:
    """The orders by the outcomes `references`, and how well every scoring gives them.

    A recommendation is chosen among the scorings by the outcomes `choices`. Nothing is said of fewer than LEAST
    candidates.
    """
    places: list[Place] = []
    decisions: list[DecisionAccuracy] = []
    recommendations: list[Recommendation] = []
    for outcome in references:
        reference = _longest(scorings, outcome)
        if reference is None:
            continue
        places += _places(candidates, scorings, reference)
        others = [s for s in scorings if s.outcome != outcome or s.anneal != reference.anneal]
        judged = [(other, decision) for other in others if (decision := decision_accuracy(reference, other))]
        decisions += [decision for _, decision in judged]
        among = [pair for pair in judged if pair[0].outcome in choices and pair[0].tokens < reference.tokens]
        if among:
            recommendations.append(_recommended(reference, among))
    return Ranking(places=tuple(places), decisions=tuple(decisions), recommendations=tuple(recommendations))


def decision_accuracy(reference: Scoring, other: Scoring) -> DecisionAccuracy | None:
    """How often `other` orders two candidates as `reference` does; None if there is no pair to compare."""
    both = np.isfinite(reference.values) & np.isfinite(other.values)
    alike = agreement(reference, other)[np.ix_(both, both)]
    num, pairs = int(both.sum()), int(np.isfinite(alike).sum()) // 2
    if num < LEAST or not pairs:
        return None
    low, high = interval(alike)
    return DecisionAccuracy(
        reference=reference.outcome,
        longest=reference.anneal,
        anneal=other.anneal,
        outcome=other.outcome,
        candidates=num,
        pairs=pairs,
        ties=math.comb(num, 2) - pairs,
        accuracy=float(np.nanmean(alike)),
        low=low,
        high=high,
        cost_percent=100 * other.tokens / reference.tokens,
    )


def agreement(reference: Scoring, other: Scoring) -> Floats:
    """(K, K) 1 for a pair in the same order, 0 in the opposite one, 0.5 if `other` has it equal.

    It is NaN for a pair that the reference can't tell apart, and where a score is missing.
    """
    true = reference.sign * (reference.values[:, None] - reference.values)
    seen = other.sign * (other.values[:, None] - other.values)
    alike = (1 + np.sign(true) * np.sign(seen)) / 2
    return np.where((np.abs(true) > Z * np.nan_to_num(reference.errors)) & (true != 0), alike, np.nan)


def unpaired(stderr: Floats) -> Floats:
    """(K, K) standard errors of differences between scores with these standard errors (K,), as if independent."""
    return np.asarray(np.hypot(stderr[:, None], stderr))


def interval(alike: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean of a symmetric matrix (K, K) of pairs, for other candidates of the same kind.

    Pairs that share a candidate are not independent. The jackknife over candidates gives the number of independent
    pairs that would have the same variance, at least half the number of candidates, and Wilson's interval follows.
    """
    pairs, num = np.isfinite(alike).sum() / 2, len(alike)
    whole, of_one = np.nansum(alike) / 2, np.nansum(alike, axis=1)
    without = pairs - np.isfinite(alike).sum(axis=1)
    share = float(whole / pairs)
    left = ((whole - of_one) / np.maximum(without, 1))[without > 0]
    variance = float((len(left) - 1) * left.var()) if len(left) else 0.0
    shrunk = (whole + 1) / (pairs + 2)
    independent = shrunk * (1 - shrunk) / variance if variance else math.inf
    n = float(np.clip(independent, min(num // 2, pairs), pairs))
    middle, half = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + (Z / (2 * n)) ** 2)
    return max(0.0, (middle - half) / (1 + Z**2 / n)), min(1.0, (middle + half) / (1 + Z**2 / n))


def _longest(scorings: Iterable[Scoring], outcome: str) -> Scoring | None:
    """The scores after the anneal with the most tokens that enough candidates have; the first of several."""
    annealed = [s for s in scorings if s.outcome == outcome and s.anneal != AS_IS and s.tokens > 0]
    enough = [s for s in annealed if np.isfinite(s.values).sum() >= LEAST]
    return max(enough, key=lambda scoring: scoring.tokens, default=None)


def _places(candidates: Sequence[str], scorings: Iterable[Scoring], reference: Scoring) -> list[Place]:
    as_is = next((s for s in scorings if s.outcome == reference.outcome and s.anneal == AS_IS), None)
    if as_is is None:
        return []
    both = np.flatnonzero(np.isfinite(as_is.values) & np.isfinite(reference.values))
    raw, annealed = as_is.values[both], reference.values[both]
    alike = np.isnan(agreement(reference, reference)[np.ix_(both, both)]).sum(axis=1) - 1
    first, second = (stats.rankdata(-reference.sign * values, method="min") for values in (raw, annealed))
    places = [
        Place(
            outcome=reference.outcome,
            candidate=candidates[index],
            as_is=float(raw[i]),
            annealed=float(annealed[i]),
            place_as_is=float(first[i]),
            place_annealed=float(second[i]),
            alike=int(alike[i]),
            longest=reference.anneal,
        )
        for i, index in enumerate(both)
    ]
    return sorted(places, key=lambda place: place.place_annealed)


def _recommended(reference: Scoring, among: Sequence[tuple[Scoring, DecisionAccuracy]]) -> Recommendation:
    decisions = [decision for _, decision in among]
    alike = (d for s, d in among if s.anneal == AS_IS and s.outcome == reference.outcome)
    return Recommendation(
        chosen=_cheapest(decisions),
        as_is=next(alike, None),
        scores=len(among),
        checked=_checked(reference, among),
    )


def _cheapest(decisions: Iterable[DecisionAccuracy]) -> DecisionAccuracy:
    """The cheapest with ENOUGH accuracy, of several the reference's own outcome; else the most accurate."""
    listed = list(decisions)
    enough = [decision for decision in listed if decision.accuracy >= ENOUGH]
    if enough:
        return min(enough, key=lambda d: (d.cost_percent, d.outcome != d.reference, -d.accuracy))
    return min(listed, key=lambda decision: (-decision.accuracy, decision.cost_percent))


def _checked(reference: Scoring, among: Sequence[tuple[Scoring, DecisionAccuracy]]) -> float | None:
    """The accuracy of the choice on the pairs of one candidate, made by the others, over all candidates."""
    matrices = np.stack([agreement(reference, scoring) for scoring, _ in among])
    right = counted = 0.0
    for left_out in range(matrices.shape[1]):
        of_one = matrices[:, left_out]
        rest = np.delete(np.delete(matrices, left_out, axis=1), left_out, axis=2)
        known = np.isfinite(rest).any(axis=(1, 2)) & np.isfinite(of_one).any(axis=1)
        if not known.any():
            continue
        accuracies = [float(np.nanmean(rest[i])) for i in np.flatnonzero(known)]
        judged = [among[i][1] for i in np.flatnonzero(known)]
        redone = [replace(d, accuracy=accuracy) for d, accuracy in zip(judged, accuracies, strict=True)]
        chosen = of_one[np.flatnonzero(known)[redone.index(_cheapest(redone))]]
        right, counted = right + float(np.nansum(chosen)), counted + float(np.isfinite(chosen).sum())
    return right / counted if counted else None
