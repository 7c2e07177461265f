"""How good each checkpoint is as saved and as annealed, and whether annealing changes the order of checkpoints."""

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
class CheckpointScores:
    """The score of one checkpoint as saved, and after one anneal."""

    outcome: str
    checkpoint: str
    """Its name, which no other checkpoint of the report has."""
    checkpoint_digest: str
    tokens: float
    """Seen in training."""
    raw: float
    raw_stderr: float
    annealed: float
    annealed_stderr: float
    run: str
    """The anneal whose score this is: the one with the most tokens, so that none is chosen by its score."""


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """Whether the scores as saved and as annealed put the checkpoints in the same order."""

    outcome: str
    checkpoints: int
    tau: float
    """Kendall's rank correlation: 1 is the same order, -1 the opposite."""
    low: float
    """Lower end of the 95 % interval, from scores drawn within their standard errors over documents."""
    high: float


def checkpoint_scores(runs: pd.DataFrame, outcome: Outcome) -> tuple[CheckpointScores, ...]:
    """The scores of every checkpoint that was annealed, ordered by tokens."""
    before, after = outcome.column("before"), outcome.column("after")
    if not {before, after} <= set(runs):
        return ()
    anneals = runs[runs["arm"] == "decay"].dropna(subset=[before, after])
    anneals = anneals.sort_values(["cost/tokens", "seed"], ascending=[False, True], kind="stable")
    scores = [
        CheckpointScores(
            outcome=outcome.name,
            checkpoint=str(row["checkpoint_name"]),
            checkpoint_digest=str(row["checkpoint"]),
            tokens=float(row["position/tokens"]),
            raw=row[before],
            raw_stderr=row[outcome.stderr("before")],
            annealed=row[after],
            annealed_stderr=row[outcome.stderr("after")],
            run=row["name"],
        )
        for _, row in anneals.drop_duplicates("checkpoint").sort_index().iterrows()
    ]
    return tuple(sorted(scores, key=lambda scores: scores.tokens))


def rank_correlation(scores: Sequence[CheckpointScores]) -> RankCorrelation | None:
    """The correlation of the two orders; None for fewer than three checkpoints, which tell nothing."""
    if len(scores) < 3:
        return None
    raw, annealed = np.array([s.raw for s in scores]), np.array([s.annealed for s in scores])
    raw_stderr, annealed_stderr = [s.raw_stderr for s in scores], [s.annealed_stderr for s in scores]
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        tau = float(stats.kendalltau(raw, annealed).statistic)
        draws = [
            stats.kendalltau(rng.normal(raw, raw_stderr), rng.normal(annealed, annealed_stderr)).statistic
            for _ in range(DRAWS)
        ]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return RankCorrelation(
        outcome=scores[0].outcome, checkpoints=len(scores), tau=tau, low=float(low), high=float(high)
    )
