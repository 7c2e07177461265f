"""Did annealing help? One answer for a setting, over its seeds and documents together.

Seeds and documents are crossed random effects: a run's mean differs from the truth by its seed, by its documents, and
by how the two meet. The document error of a run holds only the last two, and other documents would move the runs of all
seeds alike. So the variance of a mean over S seeds and D documents is, by expected mean squares (Cornfield and Tukey
1956), (MS_seeds + MS_documents - MS_both) / (S D). Few seeds tell their part of it badly, so the quantile is the mean
of Student's, with S - 1 degrees of freedom, and the normal one, weighted by the two parts (Cochran 1964). Intervals by
Satterthwaite's degrees of freedom would cover 87 % instead of 95 % with two seeds; `bench/analysis.py` measures it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from sweep.analysis.factors import Floats
from sweep.analysis.gains import LEVEL, POWER, Gain, verdict

STEPS = 40
"""Of a bisection: 1e-12."""
OVER_SEEDS = "t over seeds and documents"
Of = tuple[str, str, str]
"""A setting, what it is compared with, and the name of the outcome."""


@dataclass(frozen=True)
class _Noise:
    """The variance between the runs of a setting, its own or pooled over settings."""

    variance: float
    df: int


def document_variance(differences: Sequence[Floats]) -> float:
    """What the choice of documents adds to the variance of a mean; (D,) differences for each of at least two seeds."""
    table = np.stack(differences)
    seeds, documents = table.shape
    of_documents = table.mean(0) - table.mean()
    both = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    between = float((of_documents**2).sum()) / (documents - 1) / documents
    rest = float((both**2).sum()) / ((seeds - 1) * (documents - 1)) / (seeds * documents)
    return max(0.0, between - rest)


def gains_of_settings(
    gains: Iterable[Gain], settings: Mapping[str, str], documents: Mapping[Of, float]
) -> tuple[Gain, ...]:
    """One gain for each setting, reference and outcome: over its seeds if it has several.

    `settings` has the setting of each run's key, and `parts` the document parts that are known. Where a part isn't,
    the document error of the runs stands for it, which is larger. A run without other seeds is given the noise between
    the seeds of other settings; if there is none, its gain is as it was, and its error is over documents alone.
    """
    groups: dict[Of, list[Gain]] = defaultdict(list)
    for gain in gains:
        groups[settings[gain.key], gain.against, gain.outcome].append(gain)
    noise = _noise(groups)
    return tuple(_together(group, documents.get(of), noise.get(of[1:])) for of, group in groups.items())


def _noise(groups: Mapping[Of, Sequence[Gain]]) -> dict[tuple[str, str], _Noise]:
    """The noise between seeds of each reference and outcome of which a setting has several."""
    squares: dict[tuple[str, str], float] = defaultdict(float)
    dfs: dict[tuple[str, str], int] = defaultdict(int)
    for (_, *of), group in groups.items():
        deltas = np.array([gain.delta for gain in group])
        squares[of[0], of[1]] += float(((deltas - deltas.mean()) ** 2).sum())
        dfs[of[0], of[1]] += len(group) - 1
    return {of: _Noise(squares[of] / df, df) for of, df in dfs.items() if df}


def _together(group: Sequence[Gain], documents: float | None, noise: _Noise | None) -> Gain:
    if noise is None:
        return group[0]
    deltas, number = np.array([gain.delta for gain in group]), len(group)
    own = _Noise(float(deltas.var(ddof=1)), number - 1) if number > 1 else noise
    if documents is None:
        documents = float(np.mean([gain.stderr**2 for gain in group]))
    between = own.variance / number
    error, delta = math.sqrt(between + documents), float(deltas.mean())
    weight = between / error**2 if error else 0.0
    reach = _quantile(LEVEL, weight, own.df)
    p_value = _p_value(abs(delta) / error, weight, own.df) if error else float(delta == 0)
    return replace(
        group[0],
        first=float(np.mean([gain.first for gain in group])),
        second=float(np.mean([gain.second for gain in group])),
        delta=delta,
        stderr=error,
        low=delta - reach * error,
        high=delta + reach * error,
        detectable=(reach + POWER) * error,
        test=OVER_SEEDS,
        p_value=p_value,
        verdict=verdict(group[0], delta, p_value),
        seeds=number,
    )


def _quantile(level: float, weight: float, df: int) -> float:
    """What |delta| / error exceeds with this probability if there is no difference; `weight` is the seeds' part."""
    of_seeds, of_documents = special.stdtrit(df, 1 - level / 2), special.ndtri(1 - level / 2)
    return float(weight * of_seeds + (1 - weight) * of_documents)


def _p_value(ratio: float, weight: float, df: int) -> float:
    """The level of which `ratio` is the quantile, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _quantile(middle, weight, df) < ratio else (middle, high)
    return (low + high) / 2
