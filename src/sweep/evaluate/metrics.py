"""Metrics of choice records: each is a pure function from the choices of D documents to one value per document.

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
    """The choices of D documents, at most C of each. If a document has fewer, probabilities are 0 and lengths 1."""

    log_probability: Floats
    """(D, C)"""
    unconditional: Floats | None
    """(D, C) log-probability without the question; None: it was not scored."""
    tokens: Floats
    """(D, C)"""
    characters: Floats
    """(D, C) without the delimiter in front."""
    bytes: Floats
    """(D, C) without the delimiter in front."""
    delimiter: Floats
    """(D, C) characters of the delimiter in front: 1 for a space."""
    gold: NDArray[np.int64]
    """(D,) index of the gold choice."""
    count: NDArray[np.int64]
    """(D,) number of choices."""


def choices(columns: Mapping[str, NDArray[Any]]) -> Choices:
    """The choices in columns of records, whose rows may have any order.

    ValueError unless each document has each choice once, and one of them is gold.
    """
    documents, row = np.unique(columns["document"], return_inverse=True)
    place = row, columns["choice"]
    shape = len(documents), int(columns["choice"].max()) + 1
    taken = np.zeros(shape, dtype=np.int64)
    np.add.at(taken, place, 1)
    golds = np.bincount(row, weights=columns["gold"])
    if (taken > 1).any() or not (golds == 1).all():
        raise ValueError("a document needs each choice once and one of them gold")

    def grid(name: str, fill: float) -> Floats:
        values = np.full(shape, fill)
        values[place] = columns[name]
        return values

    gold = np.empty(len(documents), dtype=np.int64)
    gold[row[columns["gold"]]] = columns["choice"][columns["gold"]]
    without = "unconditional_log_probability"
    return Choices(
        log_probability=grid("log_probability", -np.inf),
        unconditional=grid(without, 0.0) if without in columns else None,
        **{name: grid(name, 1.0) for name in ("tokens", "characters", "bytes", "delimiter")},
        gold=gold,
        count=taken.sum(1),
    )


def values(chosen: Choices, metric: str) -> Floats:
    """(D,) the metric of each document; ValueError if the records lack a column that it needs."""
    if metric in UNCONDITIONAL and chosen.unconditional is None:
        raise ValueError(f"{metric} needs the column unconditional_log_probability, which these records don't have")
    with np.errstate(divide="ignore"):  # a choice without characters
        return METRICS[metric](chosen)


def chance(chosen: Choices) -> float:
    """Expected accuracy of a guess."""
    return float((1 / chosen.count).mean())


def available(chosen: Choices) -> list[str]:
    """The metrics that these records allow: with single choices those of the gold one, if empty none by its length."""
    empty = bool((_of_gold(chosen, chosen.bytes) == 0).any())
    alone = bool((chosen.count == 1).all())
    return [
        name
        for name in (OF_GOLD if alone else METRICS)
        if not (name in UNCONDITIONAL and chosen.unconditional is None) and not (name in OF_LENGTH and empty)
    ]


def _per_token(c: Choices) -> Floats:
    return c.log_probability / c.tokens


def _per_char(c: Choices) -> Floats:
    return c.log_probability / (c.characters + c.delimiter)


def _per_byte(c: Choices) -> Floats:
    return c.log_probability / (c.bytes + c.delimiter)


def _beyond_unconditional(c: Choices) -> Floats:
    """log P(choice | question) - log P(choice | "Answer:"): a difference, where ai2-olmo 0.6.0's `pmi_dc` divides."""
    assert c.unconditional is not None
    return c.log_probability - c.unconditional


def _of_gold(c: Choices, grid: Floats) -> Floats:
    return grid[np.arange(len(c.gold)), c.gold]


def _acc(c: Choices, grid: Floats) -> Floats:
    """1 where the gold choice has the highest value, 0 elsewhere. The first choice wins a tie."""
    return (grid.argmax(1) == c.gold).astype(np.float64)


def _correct_prob(c: Choices, grid: Floats) -> Floats:
    """Probability of the gold choice."""
    return np.exp(_of_gold(c, grid))


def _norm_correct_prob(c: Choices, grid: Floats) -> Floats:
    """Share of the gold choice in the probability of all choices."""
    return _of_gold(c, _shares(grid))


def _margin(c: Choices, grid: Floats) -> Floats:
    """Probability of the gold choice minus that of the likeliest other choice."""
    probability = np.exp(grid)
    others = probability.copy()
    others[np.arange(len(c.gold)), c.gold] = -np.inf
    return _of_gold(c, probability) - others.max(1)


def _shares(grid: Floats) -> Floats:
    odds = np.exp(grid - grid.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def _soft_log(c: Choices, grid: Floats) -> Floats:
    """Logarithm of the share of the gold choice in the probability of all choices."""
    highest = grid.max(1)
    return _of_gold(c, grid) - highest - np.log(np.exp(grid - highest[:, None]).sum(1))


def _per_character(c: Choices) -> Floats:
    """As lm-eval's acc_norm: without the space in front."""
    return c.log_probability / c.characters


def _brier(c: Choices) -> Floats:
    """Squared distance of the choices' shares from the truth."""
    distance = _shares(c.log_probability)
    distance[np.arange(len(c.gold)), c.gold] -= 1
    return (distance**2).sum(1)


METRICS: dict[str, Callable[[Choices], Floats]] = {
    "acc": lambda c: _acc(c, c.log_probability),
    "acc_norm": lambda c: _acc(c, _per_character(c)),
    "acc_bytes": lambda c: _acc(c, c.log_probability / c.bytes),
    "acc_per_token": lambda c: _acc(c, _per_token(c)),
    "acc_per_char": lambda c: _acc(c, _per_char(c)),
    "acc_per_byte": lambda c: _acc(c, _per_byte(c)),
    "acc_uncond": lambda c: _acc(c, _beyond_unconditional(c)),
    "correct_prob": lambda c: _correct_prob(c, c.log_probability),
    "correct_prob_per_token": lambda c: _correct_prob(c, _per_token(c)),
    "correct_prob_per_char": lambda c: _correct_prob(c, _per_char(c)),
    "norm_correct_prob": lambda c: _norm_correct_prob(c, c.log_probability),
    "norm_correct_prob_per_token": lambda c: _norm_correct_prob(c, _per_token(c)),
    "norm_correct_prob_per_char": lambda c: _norm_correct_prob(c, _per_char(c)),
    "soft_norm": lambda c: _norm_correct_prob(c, _per_character(c)),
    "soft_log": lambda c: _soft_log(c, c.log_probability),
    "soft_log_norm": lambda c: _soft_log(c, _per_character(c)),
    "soft_log_per_char": lambda c: _soft_log(c, _per_char(c)),
    "margin": lambda c: _margin(c, c.log_probability),
    "margin_per_token": lambda c: _margin(c, _per_token(c)),
    "margin_per_char": lambda c: _margin(c, _per_char(c)),
    "bits_per_byte": lambda c: _of_gold(c, -c.log_probability / c.bytes) / math.log(2),
    "bits_per_byte_corr": lambda c: -_of_gold(c, _per_byte(c)) / math.log(2),
    "brier_score": _brier,
}
OF_GOLD = tuple(name for name in METRICS if name.startswith(("bits_per_byte", "correct_prob")))
"""Metrics of the right choice alone."""
OF_LENGTH = ("bits_per_byte", "bits_per_byte_corr", "soft_norm", "soft_log_norm")
"""Metrics that a gold choice without characters doesn't have."""
UNCONDITIONAL = frozenset({"acc_uncond"})
"""Metrics for which the choices are scored without their question, too."""
