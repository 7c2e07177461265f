"""How good is each checkpoint really: its scores as saved and annealed, and whether annealing changes their order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.outcomes import Outcome

DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One checkpoint's score, raw and after one anneal."""

    outcome: str
    checkpoint: str
    tokens: float
    """Seen in training."""
    raw: float
    raw_stderr: float
    annealed: float
    annealed_stderr: float
    run: str
    """The anneal whose score this is: the one of most tokens, so that nothing is picked by its score."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Whether raw and annealed scores put the checkpoints in the same order."""

    outcome: str
    checkpoints: int
    tau: float
    """Kendall's rank correlation: 1 the same order, -1 the opposite one."""
    low: float
    """Ends of the 95 % interval, scores drawn anew within their standard errors over documents."""
    high: float


def ranked(runs: pd.DataFrame, outcome: Outcome) -> tuple[Ranked, ...]:
    """Every checkpoint that was annealed, by tokens."""
    columns = [outcome.column("before"), outcome.column("after")]
    if not set(columns) <= set(runs):
        return ()
    mine = runs[runs["arm"] == "decay"].dropna(subset=columns)
    made = []
    for checkpoint, group in mine.groupby("checkpoint", sort=False):
        row = group.sort_values(["cost/tokens", "seed"], ascending=[False, True], kind="stable").iloc[0]
        made.append(
            Ranked(
                outcome=outcome.name,
                checkpoint=str(checkpoint),
                tokens=float(row["position/tokens"]),
                raw=row[columns[0]],
                raw_stderr=row[outcome.stderr("before")],
                annealed=row[columns[1]],
                annealed_stderr=row[outcome.stderr("after")],
                run=row["name"],
            )
        )
    return tuple(sorted(made, key=lambda r: r.tokens))


def order(points: Sequence[Ranked]) -> Order | None:
    """None for fewer than three checkpoints: two are in one order or the other."""
    if len(points) < 3:
        return None
    raw, annealed = np.array([p.raw for p in points]), np.array([p.annealed for p in points])
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        draws = [
            stats.kendalltau(
                rng.normal(raw, [p.raw_stderr for p in points]),
                rng.normal(annealed, [p.annealed_stderr for p in points]),
            ).statistic
            for _ in range(DRAWS)
        ]
        tau = float(stats.kendalltau(raw, annealed).statistic)
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Order(outcome=points[0].outcome, checkpoints=len(points), tau=tau, low=float(low), high=float(high))
