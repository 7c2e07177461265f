"""A difference between two scores of the same documents: its interval, its test, and the least it could have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from sweep.analysis.factors import Floats
from sweep.analysis.outcomes import sign_of

Z = float(stats.norm.ppf(0.975))
POWER = float(stats.norm.ppf(0.8))
RESAMPLES = 2000
AT_ONCE = 2**20
"""Documents drawn at a time over all resamples, so that memory doesn't grow with the number of documents."""
LEVEL = 0.05
BETTER, WORSE, ALIKE = "better", "worse", "not told apart"
Pair = tuple[Floats, Floats]
"""The values (D,) of one outcome on the same documents, of the reference and of the run."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One outcome of one run, and what it is compared with."""

    checkpoint: str
    checkpoint_digest: str
    run: str
    key: str
    """The run's key: names are for people, and several sweeps may use the same ones."""
    arm: str
    against: str
    """`checkpoint` for the checkpoint itself, or `constant` for the matched control."""
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Gain(Comparison):
    """The difference between the two scores of a comparison."""

    first: float
    """The score that the run is compared with."""
    second: float
    """The score of the run."""
    delta: float
    """second - first."""
    stderr: float
    low: float
    """Lower end of the 95 % interval over documents; McNemar's test has none, so there it is that of z."""
    high: float
    detectable: float
    """The smallest true difference that a test at 5 % would detect in 4 of 5 cases."""
    test: str
    """McNemar, bootstrap, or z if only the standard error is known."""
    p_value: float
    verdict: str
    """BETTER, WORSE, or ALIKE if the test finds no difference at 5 %."""
    seeds: int = 1
    """Of how many runs, which differ in their seed alone, it is the mean."""


def gain(comparison: Comparison, first: float, second: float, stderr: float) -> Gain:
    """The difference second - first with a z-test."""
    delta = second - first
    p_value = math.erfc(abs(delta) / stderr / math.sqrt(2)) if stderr > 0 else float(delta == 0)
    return Gain(
        **vars(comparison),
        first=first,
        second=second,
        delta=delta,
        stderr=stderr,
        low=delta - Z * stderr,
        high=delta + Z * stderr,
        detectable=(Z + POWER) * stderr,
        test="z",
        p_value=p_value,
        verdict=verdict(comparison, delta, p_value),
    )


def verdict(comparison: Comparison, delta: float, p_value: float) -> str:
    """Better and worse by the test, in the direction of the outcome."""
    if delta == 0 or p_value >= LEVEL:
        return ALIKE
    return BETTER if delta * sign_of(comparison.outcome.partition("/")[0]) > 0 else WORSE


def with_document_test(gain: Gain, pair: Pair) -> Gain:
    """The same gain with a test on its documents: McNemar's if each is right or wrong, else the bootstrap."""
    if gain.outcome.startswith("acc") and np.isin(np.concatenate(pair), (0.0, 1.0)).all():
        p_value = mcnemar(*pair)
        return replace(gain, test="McNemar", p_value=p_value, verdict=verdict(gain, gain.delta, p_value))
    low, high, p_value = bootstrap(pair[1] - pair[0])
    judged = verdict(gain, gain.delta, p_value)
    return replace(gain, test="bootstrap", low=low, high=high, p_value=p_value, verdict=judged)


def mcnemar(first: Floats, second: Floats) -> float:
    """The exact two-sided p-value, if documents become right as often as they become wrong."""
    better, worse = int((second > first).sum()), int((second < first).sum())
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def bootstrap(difference: Floats) -> tuple[float, float, float]:
    """The 95 % percentile interval of the mean difference over documents, and the two-sided p-value of no difference.

    Written out because `scipy.stats.bootstrap` would save three lines and take half as long again: it draws indices of
    8 bytes where these have 4.
    """
    if np.ptp(difference) == 0:
        mean = float(difference[0])
        return mean, mean, float(mean == 0)
    rng, number = np.random.default_rng(0), len(difference)
    at_once = max(1, AT_ONCE // number)
    sizes = (min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once))
    drawn = (rng.integers(number, size=(size, number), dtype=np.int32) for size in sizes)
    means = np.concatenate([difference[documents].mean(1) for documents in drawn])
    low, high = np.quantile(means, [0.025, 0.975])
    tail = min((means <= 0).sum(), (means >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1)))
