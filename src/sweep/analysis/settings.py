"""What is best, and how flat the optimum is: the mean gain of each setting, against the best one of its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis
from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import SeedNoise, seed_noise
from sweep.planning.names import is_of_checkpoint


@dataclass(frozen=True, kw_only=True)
class SettingGain:
    """The gain of one setting of the anneal at one checkpoint, for one outcome."""

    outcome: str
    checkpoint: str
    """Its name, which no other checkpoint of the report has."""
    checkpoint_digest: str
    settings: tuple[tuple[str, object], ...]
    """Axes and levels, without those that only say which checkpoint it is."""
    seeds: int
    gain: float
    """Mean over seeds of after - before, with the sign that makes more better."""
    low: float | None
    """Lower end of the 95 % interval over seeds; None if no run of the sweep is repeated."""
    high: float | None
    best: bool
    apart: bool | None
    """Whether it differs from the checkpoint's best setting (Tukey, 5 % over all pairs); None if noise is unknown."""
    cheapest: bool
    """Whether it needs the fewest tokens among those that don't differ from the best."""
    tokens: float
    seconds: float
    """Of annealing, on the machine that made the runs."""
    gain_per_million_tokens: float
    gain_per_hour: float


def setting_gains(runs: pd.DataFrame, axes: Sequence[Axis], outcome: Outcome) -> tuple[SettingGain, ...]:
    """Every setting of every checkpoint, the best first; `runs` are anneals."""
    of_one = runs.groupby("checkpoint", sort=False)
    names = [a.name for a in axes if not is_of_checkpoint(a.name) or (of_one[a.name].nunique(dropna=False) > 1).any()]
    measured = runs.dropna(subset=[outcome.column("delta")])
    if measured.empty:
        return ()
    measured = measured.assign(gain=outcome.sign * measured[outcome.column("delta")])
    grouped = measured.groupby(["checkpoint", *names], sort=False, dropna=False)
    table = grouped.agg(
        gain=("gain", "mean"),
        seeds=("gain", "size"),
        tokens=("cost/tokens", "mean"),
        seconds=("cost/anneal_s", "mean"),
        checkpoint_name=("checkpoint_name", "first"),
    ).reset_index()
    noise = seed_noise(grouped["gain"])
    gains: list[SettingGain] = []
    for _, group in table.groupby("checkpoint", sort=False):
        gains += _of_checkpoint(group.sort_values("gain", ascending=False), names, outcome, noise)
    return tuple(gains)


def _of_checkpoint(
    group: pd.DataFrame, names: Sequence[str], outcome: Outcome, noise: SeedNoise | None
) -> list[SettingGain]:
    best = group.iloc[0]
    gains = []
    for place, row in enumerate(group.to_dict("records")):
        gain, half, apart = row["gain"], None, None
        if noise is not None:
            half = float(stats.t.ppf(0.975, noise.df)) * noise.sd / np.sqrt(row["seeds"])
            least = _tukey(len(group), noise.df) * noise.sd * np.sqrt(1 / row["seeds"] + 1 / best["seeds"])
            apart = bool(best["gain"] - gain > least)
        setting = SettingGain(
            outcome=outcome.name,
            checkpoint=str(row["checkpoint_name"]),
            checkpoint_digest=str(row["checkpoint"]),
            settings=tuple((name, row[name]) for name in names),
            seeds=int(row["seeds"]),
            gain=gain,
            low=None if half is None else gain - half,
            high=None if half is None else gain + half,
            best=place == 0,
            apart=apart,
            cheapest=False,
            tokens=row["tokens"],
            seconds=row["seconds"],
            gain_per_million_tokens=gain / row["tokens"] * 1e6 if row["tokens"] else np.nan,
            gain_per_hour=gain / row["seconds"] * 3600 if row["seconds"] else np.nan,
        )
        gains.append(setting)
    alike = [setting for setting in gains if setting.apart is False]
    cheapest = min(alike, key=lambda setting: (setting.tokens, -setting.gain), default=None)
    return [replace(setting, cheapest=setting is cheapest) for setting in gains]


@cache
def _tukey(means: int, df: int) -> float:
    """The difference, in standard errors, that the largest of all pairs of means stays below with 95 % probability.

    Above 50 means it is Bonferroni's, which is a little larger and needs no integral.
    """
    if means == 1:
        return 0.0
    if means > 50:
        return float(stats.t.ppf(1 - 0.05 / (means * (means - 1)), df))
    return float(stats.studentized_range.ppf(0.95, means, df) / np.sqrt(2))


def settings_text(settings: Iterable[tuple[str, object]]) -> str:
    """Settings in the form of overrides."""
    return " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings)
