"""What is best, and how flat it is: the mean over seeds of every setting, against the best one of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis
from sweep.analysis.outcomes import Outcome

CHECKPOINT_AXES = ("model", "checkpoint.step", "checkpoint.path")


@dataclass(frozen=True, kw_only=True)
class SettingGain:
    """One setting of the anneal at one checkpoint, for one outcome."""

    outcome: str
    checkpoint: str
    settings: tuple[tuple[str, object], ...]
    """Axis and level, those of the checkpoint left out."""
    seeds: int
    gain: float
    """Mean over seeds of after - before, so that more is better (a loss is counted down)."""
    low: float | None
    """Ends of the 95 % interval over seeds; None: no run is repeated in this sweep."""
    high: float | None
    best: bool
    apart: bool | None
    """Whether it is told apart from the checkpoint's best setting (Tukey, 5 % over all pairs); None: no noise known."""
    cheapest: bool
    """The fewest tokens among those not distinguishable from the best."""
    tokens: float
    seconds: float
    gain_per_million_tokens: float
    gain_per_hour: float
    """Of annealing; on whichever machine the runs were made."""


def settings(runs: pd.DataFrame, found: Sequence[Axis], outcome: Outcome) -> tuple[SettingGain, ...]:
    """Every setting of every checkpoint, best first; `runs` are anneals."""
    names = [axis.name for axis in found if axis.name not in CHECKPOINT_AXES]
    column = outcome.column("delta")
    mine = runs.dropna(subset=[column])
    if mine.empty:
        return ()
    keys = ["checkpoint", *names]
    scored = mine.assign(gain_=outcome.sign * mine[column])
    grouped = scored.groupby(keys, sort=False, dropna=False, observed=True)
    table = grouped.agg(
        gain=("gain_", "mean"), n=("gain_", "size"), tokens=("cost/tokens", "mean"), seconds=("cost/anneal_s", "mean")
    ).reset_index()
    df = len(scored) - len(table)
    squares = float(((scored["gain_"] - grouped["gain_"].transform("mean")) ** 2).sum())
    sd = float(np.sqrt(squares / df)) if df else None
    made: list[SettingGain] = []
    for checkpoint, group in table.groupby("checkpoint", sort=False):
        made += _of_checkpoint(outcome, str(checkpoint), group.sort_values("gain", ascending=False), names, sd, df)
    return tuple(made)


def _of_checkpoint(
    outcome: Outcome, checkpoint: str, group: pd.DataFrame, names: Sequence[str], sd: float | None, df: int
) -> list[SettingGain]:
    best = group.iloc[0]
    critical = _tukey(len(group), df) if sd is not None and len(group) > 1 else 0.0
    made = []
    for place, row in enumerate(group.to_dict("records")):
        half = apart = None
        if sd is not None:
            half = float(stats.t.ppf(0.975, df)) * sd / np.sqrt(row["n"])
            apart = bool(best["gain"] - row["gain"] > critical * sd * np.sqrt(1 / row["n"] + 1 / best["n"]))
        made.append(
            SettingGain(
                outcome=outcome.name,
                checkpoint=checkpoint,
                settings=tuple((name, row[name]) for name in names),
                seeds=int(row["n"]),
                gain=row["gain"],
                low=None if half is None else row["gain"] - half,
                high=None if half is None else row["gain"] + half,
                best=place == 0,
                apart=apart,
                cheapest=False,
                tokens=row["tokens"],
                seconds=row["seconds"],
                gain_per_million_tokens=row["gain"] / row["tokens"] * 1e6 if row["tokens"] else np.nan,
                gain_per_hour=row["gain"] / row["seconds"] * 3600 if row["seconds"] else np.nan,
            )
        )
    alike = [i for i, setting in enumerate(made) if setting.apart is False]
    if alike:
        least = min(alike, key=lambda i: (made[i].tokens, -made[i].gain))
        made[least] = replace(made[least], cheapest=True)
    return made


@cache
def _tukey(k: int, df: int) -> float:
    """Standard errors of a difference that the largest of all pairs of k means stays under in 95 %.

    Above 50 means Bonferroni's, which is a little wider and takes no integral.
    """
    if k > 50:
        return float(stats.t.ppf(1 - 0.05 / (k * (k - 1)), df))
    return float(stats.studentized_range.ppf(0.95, k, df) / np.sqrt(2))
