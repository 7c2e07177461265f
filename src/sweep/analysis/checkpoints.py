"""How good each checkpoint is as saved and as annealed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sweep.analysis.outcomes import Outcome


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
