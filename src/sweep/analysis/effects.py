"""Which choice matters: shares of the variance, beside the noise between runs that differ in their seed alone.

Sums of squares are type II (a term given all terms that don't contain it), which on a full grid is the plain split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis, Floats, Term, coded, model
from sweep.analysis.linear_model import LinearModel, by_chance, holm

LEVEL = 0.05
"""The most that the chance of calling any inert axis of an outcome a mattering one may be (Holm)."""
SHOWS = 0.25
"""Level at which what a model leaves over is taken for more than noise: liberal, so that little passes."""
MATTERS, UNDER, UNKNOWN = "matters", "under the noise floor", "can't tell: no run is repeated"
UNSURE = "can't tell: its values in another order may explain as much"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One axis or two-way interaction, for one outcome."""

    outcome: str
    term: str
    """Axis, or two joined by a colon."""
    share_percent: float
    """Of the sum of squares over all runs."""
    df: int
    floor_percent: float | None
    """The share that noise (see `_error`) alone stays under in 95 % of sweeps; None: no seed was repeated."""
    p_value: float | None
    """Of noise giving such a share, adjusted for the number of terms (Holm); of drawn axes no less than `by_chance`."""
    verdict: str
    """MATTERS, UNDER, UNKNOWN, or of drawn axes UNSURE: above the noise, but not above chance."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class Level:
    """What one level of an axis does to an outcome: its distance from the axis's mean level."""

    outcome: str
    axis: str
    level: object
    effect: float
    low: float | None
    """Ends of the 95 % interval; None: nothing to judge the noise by."""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How much equal runs differ."""

    outcome: str
    sd: float | None
    """Standard deviation between runs that differ in their seed alone; None: there are none."""
    df: int


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    """The linear model of M outcomes that the same runs have, over C settings."""

    axes: Sequence[Axis]
    outcomes: list[str]
    columns: Floats
    """(C, P) the model's columns."""
    terms: Sequence[Term]
    fit: LinearModel
    weight: Floats
    """(C,) runs of each setting."""
    means: Floats
    """(C, M) mean of each setting."""
    noise: Floats
    """(M,) sum of squares within settings, between seeds."""
    noise_df: int
    total: Floats
    """(M,) sum of squares over all runs."""

    @property
    def variance(self) -> Floats | None:
        """(M,) variance between seeds; None if no run is repeated with another seed."""
        return self.noise / self.noise_df if self.noise_df else None

    @property
    def runs(self) -> int:
        """Number of runs."""
        return int(self.weight.sum())


def effects(
    runs: pd.DataFrame, axes: Sequence[Axis], outcomes: Sequence[str]
) -> tuple[tuple[Effect, ...], tuple[Level, ...], tuple[Noise, ...]]:
    """Effects, effects of levels, and noise, of every outcome that at least two runs have; a row of `runs` is a run."""
    all_effects: list[Effect] = []
    all_levels: list[Level] = []
    all_noise: list[Noise] = []
    chance: dict[tuple[str, str], float] = {}
    if not axes:
        return (), (), ()
    for present, names in _alike(runs, outcomes):
        fitted, by_axis = _fitted(runs[present], axes, names)
        variance = fitted.variance
        error = None if variance is None else _error(fitted, variance)
        if error is not None:
            for axis, often in by_chance(by_axis, axes, fitted.weight, fitted.means).items():
                chance |= {(name, axis): float(p) for name, p in zip(names, often, strict=True)}
        for term, squares, df in _type_two(fitted.fit, fitted.terms):
            all_effects += _effects(fitted, term.name, squares, df, error)
        all_levels += _levels(fitted)
        sds = [None] * len(names) if variance is None else [float(sd) for sd in np.sqrt(variance)]
        all_noise += [Noise(outcome=name, sd=sd, df=fitted.noise_df) for name, sd in zip(names, sds, strict=True)]
    return tuple(_adjusted(all_effects, chance)), tuple(all_levels), tuple(all_noise)


def _fitted(runs: pd.DataFrame, axes: Sequence[Axis], names: list[str]) -> tuple[_Fitted, Mapping[str, Floats]]:
    """The model fitted to these outcomes, and the coded columns of each axis."""
    settings, weight, means, noise, noise_df = _settings(runs, axes, names)
    by_axis = coded(settings, axes)
    columns, terms = model(by_axis, axes)
    total = ((means - (weight @ means) / weight.sum()) ** 2 * weight[:, None]).sum(0) + noise
    fitted = _Fitted(
        axes=axes,
        outcomes=names,
        columns=columns,
        terms=terms,
        fit=LinearModel.of(columns, weight, means),
        weight=weight,
        means=means,
        noise=noise,
        noise_df=noise_df,
        total=total,
    )
    return fitted, by_axis


def _alike(runs: pd.DataFrame, outcomes: Sequence[str]) -> list[tuple[Floats, list[str]]]:
    """The outcomes grouped by the runs that have them."""
    groups: dict[bytes, tuple[Floats, list[str]]] = {}
    for name in outcomes:
        there = np.isfinite(runs[name].to_numpy(dtype=float))
        if there.sum() > 1:
            groups.setdefault(there.tobytes(), (there, []))[1].append(name)
    return list(groups.values())


def _settings(
    runs: pd.DataFrame, found: Sequence[Axis], names: list[str]
) -> tuple[pd.DataFrame, Floats, Floats, Floats, int]:
    """Settings of the C settings, runs in each (C,), means (C, M), sums of squares within (M,), and their degrees."""
    grouped = runs.groupby([axis.name for axis in found], sort=False, dropna=False)
    setting = grouped.ngroup().to_numpy()
    settings = runs[[axis.name for axis in found]].iloc[np.unique(setting, return_index=True)[1]].reset_index(drop=True)
    values, weight = runs[names].to_numpy(dtype=float), np.bincount(setting).astype(float)
    means = np.stack([np.bincount(setting, weights=column) for column in values.T], axis=1) / weight[:, None]
    return settings, weight, means, ((values - means[setting]) ** 2).sum(0), len(runs) - len(settings)


def _type_two(fit: LinearModel, terms: Sequence[Term]) -> list[tuple[Term, Floats, int]]:
    """Each term's sums of squares, given the terms that don't contain it, and its degrees of freedom."""
    found = []
    for term in terms:
        others = [t for t in terms if not set(term.axes) <= set(t.axes)]
        without = [0, *(c for t in others for c in range(t.columns.start, t.columns.stop))]
        (less, low), (more, high) = (
            fit.explained(columns) for columns in (without, [*without, *range(term.columns.start, term.columns.stop)])
        )
        if high > low:
            found.append((term, np.maximum(more - less, 0.0), high - low))
    return found


def _error(fitted: _Fitted, variance: Floats) -> tuple[Floats, Floats]:
    """(M,) variance that the terms are judged by, and its degrees of freedom: usually those between seeds.

    If the settings are not a whole grid with equally many runs each, what the model doesn't explain (an interaction it
    lacks, a bend) leaks into terms that do nothing. Where that shows above the noise, the terms are judged by it.
    """
    weight = fitted.weight
    df = np.full(len(variance), float(fitted.noise_df))
    explained, rank = fitted.fit.explained(range(len(fitted.fit.gram)))
    whole_grid = len(weight) == np.prod([len(axis.levels) for axis in fitted.axes]) and len(set(weight)) == 1
    rest_df = len(weight) - rank
    if rest_df <= 0 or (whole_grid and not any(axis.continuous for axis in fitted.axes)):
        return variance, df
    rest = np.maximum((weight @ fitted.means**2) - explained, 0.0) / rest_df
    shows = rest > stats.f.ppf(1 - SHOWS, rest_df, fitted.noise_df) * variance
    return np.where(shows, rest, variance), np.where(shows, rest_df, df)


def _effects(fitted: _Fitted, term: str, squares: Floats, df: int, error: tuple[Floats, Floats] | None) -> list[Effect]:
    effects = []
    for i, name in enumerate(fitted.outcomes):
        total = fitted.total[i]
        share = 100 * squares[i] / total if total > 0 else 0.0
        floor = p_value = None
        if error is not None:
            variance, error_df = error[0][i], error[1][i]
            ratio = squares[i] / df / variance if variance > 0 else np.inf if squares[i] > 0 else 0.0
            p_value = float(stats.f.sf(ratio, df, error_df))
            floor = float(100 * df * variance * stats.f.ppf(1 - LEVEL, df, error_df) / total) if total else 0.0
        effects.append(
            Effect(
                outcome=name,
                term=term,
                share_percent=float(share),
                df=df,
                floor_percent=floor,
                p_value=p_value,
                verdict=UNKNOWN,
                runs=fitted.runs,
            )
        )
    return effects


def _adjusted(made: list[Effect], chance: Mapping[tuple[str, str], float]) -> list[Effect]:
    """p-values adjusted within each outcome, no less than its axes' own where they have one, and the verdicts."""
    result = []
    for outcome in dict.fromkeys(effect.outcome for effect in made):
        mine = [effect for effect in made if effect.outcome == outcome]
        judged = [effect for effect in mine if effect.p_value is not None]
        adjusted = dict(zip((e.term for e in judged), holm(np.array([e.p_value for e in judged])), strict=True))
        for effect in mine:
            own = [chance.get((outcome, axis), 0.0) for axis in effect.term.split(":")]
            noise = adjusted.get(effect.term)
            p = None if noise is None else max(float(noise), *own)
            result.append(Effect(**{**vars(effect), "p_value": p, "verdict": _verdict(noise, max(own))}))
    return result


def _verdict(noise: float | None, chance: float) -> str:
    """From the adjusted p-values of noise, and of a drawn axis's own values in another order."""
    if noise is None:
        return UNKNOWN
    if noise >= LEVEL:
        return UNDER
    return UNSURE if chance >= LEVEL else MATTERS


def _levels(fitted: _Fitted) -> list[Level]:
    """Effects of the levels of axes with few levels.

    With interactions if each can be estimated, else of main effects alone. The noise is that between seeds; if no seed
    is repeated, or interactions are left out, it is what the model doesn't explain.
    """
    used = _estimable(fitted)
    if used is None:
        return []
    inverse = np.linalg.inv(fitted.fit.gram[:used, :used])
    coefficients = inverse @ fitted.fit.moment[:used]
    squares, df = _level_noise(fitted, used, coefficients)
    levels = []
    for axis, term in zip(fitted.axes, fitted.terms, strict=False):
        if axis.continuous:
            continue
        code = axis.columns(pd.Series(axis.levels, name=axis.name, dtype=object))
        effect = code @ coefficients[term.columns]
        spread = np.sqrt(np.einsum("lc,cd,ld->l", code, inverse[term.columns, term.columns], code))
        for i, name in enumerate(fitted.outcomes):
            half = stats.t.ppf(0.975, df) * np.sqrt(squares[i] / df) * spread if df > 0 else None
            for j, level in enumerate(axis.levels):
                value = float(effect[j, i])
                low, high = (None, None) if half is None else (value - float(half[j]), value + float(half[j]))
                levels.append(Level(outcome=name, axis=axis.name, level=level, effect=value, low=low, high=high))
    return levels


def _estimable(fitted: _Fitted) -> int | None:
    """How many of the first columns can be estimated: all, or those of main effects; None if not even these."""
    gram, used = fitted.fit.gram, fitted.columns.shape[1]
    if np.linalg.matrix_rank(gram, hermitian=True) == used:
        return used
    used = max((term.columns.stop for term in fitted.terms if len(term.axes) == 1), default=1)
    return None if np.linalg.matrix_rank(gram[:used, :used], hermitian=True) < used else used


def _level_noise(fitted: _Fitted, used: int, coefficients: Floats) -> tuple[Floats, int]:
    """(M,) sum of squares that the levels' intervals are made of, and its degrees of freedom."""
    columns, terms = fitted.columns, fitted.terms
    with_interactions = used == columns.shape[1] and (len(terms) > len(fitted.axes) or len(fitted.axes) == 1)
    if with_interactions and fitted.noise_df > 0:
        return fitted.noise, fitted.noise_df
    residual = fitted.means - columns[:, :used] @ coefficients
    return (residual**2 * fitted.weight[:, None]).sum(0) + fitted.noise, fitted.runs - used
