"""Metrics of choice records: a pure function each, from the choices of D documents to a value a document.

Names are upstream's. lm-eval 0.4's `acc`, `acc_norm`, `acc_bytes`, `brier_score` and ai2-olmo's `bits_per_byte` (its
`bpb`) leave the space in front of a choice out of its length. Catwalk's and OLMES's (arXiv 2406.08446) `acc_per_token`,
`acc_per_char`, `acc_per_byte`, `acc_uncond`, `bits_per_byte_corr`, and DataDecide's (arXiv 2504.11393) `correct_prob`,
`norm_correct_prob`, `margin` count it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The choices of D documents, at most C of each; where a document has fewer, probabilities are 0 and lengths 1."""

    log_probability: Floats
    """(D, C)"""
    unconditional: Floats | None
    """(D, C) log-probability without the question; None: it was not asked for."""
    tokens: Floats
    """(D, C)"""
    characters: Floats
    """(D, C) without the space in front."""
    bytes: Floats
    """(D, C) without the space in front."""
    delimiter: Floats
    """(D, C) characters in front: 1 for a space."""
    gold: NDArray[np.int64]
    """(D,) index of the right choice."""
    count: NDArray[np.int64]
    """(D,) choices of each document."""


def choices(columns: Mapping[str, NDArray[Any]]) -> Choices:
    """Records by columns, in any order of rows; ValueError unless a document has each choice once and one gold one."""
    documents, index = np.unique(columns["document"], return_inverse=True)
    place = index, columns["choice"]
    shape = len(documents), int(columns["choice"].max()) + 1
    taken = np.zeros(shape, dtype=np.int64)
    np.add.at(taken, place, 1)
    golds = np.bincount(index, weights=columns["gold"])
    if (taken > 1).any() or not (golds == 1).all():
        raise ValueError("a document needs each choice once and one of them gold")

    def grid(name: str, fill: float) -> Floats:
        values = np.full(shape, fill)
        values[place] = columns[name]
        return values

    gold = np.empty(len(documents), dtype=np.int64)
    gold[index[columns["gold"]]] = columns["choice"][columns["gold"]]
    without = "unconditional_log_probability"
    return Choices(
        log_probability=grid("log_probability", -np.inf),
        unconditional=grid(without, 0.0) if without in columns else None,
        **{name: grid(name, 1.0) for name in ("tokens", "characters", "bytes", "delimiter")},
        gold=gold,
        count=taken.sum(1),
    )


def values(chosen: Choices, metric: str) -> Floats:
    """(D,) the metric of each document; ValueError where the records lack what it needs."""
    if metric in UNCONDITIONAL and chosen.unconditional is None:
        raise ValueError(f"{metric} needs the column unconditional_log_probability, which these records don't have")
    with np.errstate(divide="ignore"):  # a choice without characters
        return METRICS[metric](chosen)


def chance(chosen: Choices) -> float:
    """Expected accuracy of a guess."""
    return float((1 / chosen.count).mean())


def available(chosen: Choices) -> list[str]:
    """The metrics that these records allow: an empty right choice has no bits per byte."""
    empty = bool((_of_gold(chosen, chosen.bytes) == 0).any())
    return [
        name
        for name in METRICS
        if not (name in UNCONDITIONAL and chosen.unconditional is None) and not (name.startswith("bits_") and empty)
    ]


def _per_token(c: Choices) -> Floats:
    return c.log_probability / c.tokens


def _per_char(c: Choices) -> Floats:
    return c.log_probability / (c.characters + c.delimiter)


def _per_byte(c: Choices) -> Floats:
    return c.log_probability / (c.bytes + c.delimiter)


def _summed(c: Choices) -> Floats:
    return c.log_probability


def _beyond_unconditional(c: Choices) -> Floats:
    """log P(choice | question) - log P(choice | "Answer:"): a difference, where ai2-olmo 0.6.0's `pmi_dc` divides."""
    assert c.unconditional is not None
    return c.log_probability - c.unconditional


def _of_gold(c: Choices, grid: Floats) -> Floats:
    return grid[np.arange(len(c.gold)), c.gold]


def _acc(by: Callable[[Choices], Floats]) -> Callable[[Choices], Floats]:
    """1 where the gold choice has the highest value, the first choice winning a tie; 0 elsewhere."""
    return lambda c: (by(c).argmax(1) == c.gold).astype(np.float64)


def _correct_prob(by: Callable[[Choices], Floats]) -> Callable[[Choices], Floats]:
    """Probability of the gold choice."""
    return lambda c: np.exp(_of_gold(c, by(c)))


def _norm_correct_prob(by: Callable[[Choices], Floats]) -> Callable[[Choices], Floats]:
    """Its share of the choices' probability."""
    return lambda c: _of_gold(c, _shares(by(c)))


def _margin(by: Callable[[Choices], Floats]) -> Callable[[Choices], Floats]:
    """Probability of the gold choice less that of the likeliest other."""

    def margin(c: Choices) -> Floats:
        probability = np.exp(by(c))
        others = probability.copy()
        others[np.arange(len(c.gold)), c.gold] = -np.inf
        return _of_gold(c, probability) - others.max(1)

    return margin


def _shares(grid: Floats) -> Floats:
    odds = np.exp(grid - grid.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _brier(c: Choices) -> Floats:
    """Squared distance of the choices' shares from the truth."""
    distance = _shares(c.log_probability)
    distance[np.arange(len(c.gold)), c.gold] -= 1
    return (distance**2).sum(1)


METRICS: dict[str, Callable[[Choices], Floats]] = {
    "acc": _acc(_summed),
    "acc_norm": _acc(lambda c: c.log_probability / c.characters),
    "acc_bytes": _acc(lambda c: c.log_probability / c.bytes),
    "acc_per_token": _acc(_per_token),
    "acc_per_char": _acc(_per_char),
    "acc_per_byte": _acc(_per_byte),
    "acc_uncond": _acc(_beyond_unconditional),
    "correct_prob": _correct_prob(_summed),
    "correct_prob_per_token": _correct_prob(_per_token),
    "correct_prob_per_char": _correct_prob(_per_char),
    "norm_correct_prob": _norm_correct_prob(_summed),
    "norm_correct_prob_per_token": _norm_correct_prob(_per_token),
    "norm_correct_prob_per_char": _norm_correct_prob(_per_char),
    "margin": _margin(_summed),
    "margin_per_token": _margin(_per_token),
    "margin_per_char": _margin(_per_char),
    "bits_per_byte": lambda c: _of_gold(c, -c.log_probability / c.bytes) / math.log(2),
    "bits_per_byte_corr": lambda c: -_of_gold(c, _per_byte(c)) / math.log(2),
    "brier_score": _brier,
}
UNCONDITIONAL = frozenset({"acc_uncond"})
"""Metrics that need the choices scored without their question too."""
