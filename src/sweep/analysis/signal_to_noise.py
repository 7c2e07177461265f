"""Signal-to-noise of each outcome: how far apart the settings of a sweep are, against how much equal runs differ.

After Signal and Noise (Heineman et al. 2025, arXiv 2508.13144); the noise here is that between seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis
from sweep.analysis.outcomes import Outcome

THRESHOLD = 1.0
"""The ratio above which settings lie further apart than equal runs, so that their ranks mean something."""


@dataclass(frozen=True)
class SeedNoise:
    """The noise between runs of one setting."""

    sd: float
    df: int


@dataclass(frozen=True, kw_only=True)
class SignalToNoise:
    """The signal and the noises of one outcome, in its own unit."""

    outcome: str
    signal: float
    """Standard deviation of the settings' means, less what noise alone adds to it."""
    noise: float | None
    """Standard deviation between seeds; None if no seed is repeated."""
    documents: float
    """Standard error of the delta of one run, over documents."""
    ratio: float | None
    """Signal over noise."""
    separates: bool | None
    """Whether the ratio is above THRESHOLD, and not by chance (F test at 5 %); None if the noise is unknown."""


def seed_noise(grouped: Any) -> SeedNoise | None:
    """The standard deviation within the groups of a column that is grouped by setting; None if no group has two."""
    residuals = grouped.obj - grouped.transform("mean")
    df = len(residuals) - grouped.ngroups
    return SeedNoise(float(np.sqrt((residuals**2).sum() / df)), df) if df else None


def signal_to_noise(runs: pd.DataFrame, axes: Sequence[Axis], outcomes: Sequence[Outcome]) -> tuple[SignalToNoise, ...]:
    """The outcomes that at least two settings have; `runs` are anneals."""
    names = [axis.name for axis in axes]
    measured = [o for o in outcomes if names and o.column("delta") in runs]
    ratios = (_signal_to_noise(runs.dropna(subset=[o.column("delta")]), names, o) for o in measured)
    return tuple(ratio for ratio in ratios if ratio is not None)


def _signal_to_noise(runs: pd.DataFrame, names: list[str], outcome: Outcome) -> SignalToNoise | None:
    grouped = runs.groupby(names, sort=False, dropna=False)[outcome.column("delta")]
    means, sizes = grouped.mean().to_numpy(), grouped.size().to_numpy()
    if len(means) < 2:
        return None
    noise, ratio, separates, from_noise = seed_noise(grouped), None, None, 0.0
    if noise is not None:
        from_noise = noise.sd**2 * (1 / sizes).mean()
    signal = float(np.sqrt(max(means.var(ddof=1) - from_noise, 0.0)))
    if noise is not None:
        ratio = signal / noise.sd if noise.sd else np.inf
        between = (sizes * (means - np.average(means, weights=sizes)) ** 2).sum() / (len(means) - 1)
        by_chance = between <= stats.f.ppf(0.95, len(means) - 1, noise.df) * noise.sd**2
        separates = bool(ratio > THRESHOLD and not by_chance)
    return SignalToNoise(
        outcome=outcome.name,
        signal=signal,
        noise=None if noise is None else noise.sd,
        documents=float(runs[outcome.stderr("delta")].mean()),
        ratio=ratio,
        separates=separates,
    )
