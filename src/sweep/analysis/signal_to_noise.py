"""Signal-to-noise of each outcome: how far apart the settings of a sweep are, against how much equal runs differ.

After Signal and Noise (Heineman et al. 2025, arXiv 2508.13144); the noise here is that between seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis, Floats
from sweep.analysis.outcomes import Outcome

LINE = 1.0
"""Signal over noise from which ranks are shown: settings lie apart by more than equal runs do."""


@dataclass(frozen=True, kw_only=True)
class SignalToNoise:
    """One outcome's signal and noises, in its own unit."""

    outcome: str
    signal: float
    """Standard deviation of the settings' true values: that of their means, less what noise alone gives them."""
    noise: float | None
    """Standard deviation between seeds; None: none is repeated."""
    documents: float
    """Standard error over documents of one run's delta."""
    ratio: float | None
    """Signal over noise."""
    trusted: bool | None
    """Whether the ratio is above LINE, and not by chance (F test of the settings at 5 %); None: can't tell."""


def signal_to_noise(
    runs: pd.DataFrame, found: Sequence[Axis], outcomes: Sequence[Outcome]
) -> tuple[SignalToNoise, ...]:
    """Of every outcome with at least two settings; `runs` are anneals."""
    names = [axis.name for axis in found]
    made = []
    for outcome in outcomes:
        column = outcome.column("delta")
        if not names or column not in runs or len(mine := runs.dropna(subset=[column])) < 2:
            continue
        grouped = mine.groupby(names, sort=False, dropna=False)[column]
        means, sizes = grouped.mean().to_numpy(), grouped.size().to_numpy()
        df = len(mine) - len(means)
        noise = float(np.sqrt(((mine[column] - grouped.transform("mean")) ** 2).sum() / df)) if df else None
        if len(means) < 2:
            continue
        variance = means.var(ddof=1) - (0.0 if noise is None else noise**2 * (1 / sizes).mean())
        signal = float(np.sqrt(max(variance, 0.0)))
        ratio = None if noise is None else signal / noise if noise else np.inf
        made.append(
            SignalToNoise(
                outcome=outcome.name,
                signal=signal,
                noise=noise,
                documents=float(mine[outcome.stderr("delta")].mean()),
                ratio=ratio,
                trusted=None
                if ratio is None or noise is None
                else bool(ratio > LINE and _apart(means, sizes, noise, df)),
            )
        )
    return tuple(made)


def _apart(means: Floats, sizes: Floats, noise: float, df: int) -> bool:
    """Whether seeds alone give settings that lie so far apart in less than 5 %."""
    between = (sizes * (means - np.average(means, weights=sizes)) ** 2).sum() / (len(means) - 1)
    return bool(between > stats.f.ppf(0.95, len(means) - 1, df) * noise**2)
