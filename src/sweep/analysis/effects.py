"""Which choice matters: shares of the variance, beside the noise between runs that differ only in their seed.

Sums of squares are of type II: each term is judged given all terms that don't contain it. On a full grid this is the
plain analysis of variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis, Design, Floats, Term, design
from sweep.analysis.linear_model import LinearModel, holm, shuffle_p_values

LEVEL = 0.05
"""The probability, at most, that any inert axis of an outcome is said to matter (Holm)."""
MISFIT_LEVEL = 0.25
"""Level at which what the model fails to explain counts as more than noise; high, so that little is overlooked."""
MATTERS, UNDER, UNKNOWN = "matters", "under the noise floor", "can't tell: no run is repeated"
UNSURE = "can't tell: its values in another order may explain as much"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The share of one axis or two-way interaction in the variance of one outcome."""

    outcome: str
    term: str
    """An axis, or two axes joined by a colon."""
    share_percent: float
    """Percentage of the sum of squares over all runs."""
    df: int
    floor_percent: float | None
    """The share that noise alone stays below in 95 % of sweeps (see `_error`); None if no seed is repeated."""
    p_value: float | None
    """Probability that noise gives such a share, Holm-adjusted; for drawn axes at least that of `shuffle_p_values`."""
    verdict: str
    """MATTERS, UNDER, UNKNOWN, or UNSURE for drawn axes above the noise but not above chance."""
    runs: int


@dataclass(frozen=True, kw_only=True)
class Level:
    """The effect of one level of an axis on an outcome: the distance from the mean of the axis's levels."""

    outcome: str
    axis: str
    level: object
    effect: float
    low: float | None
    """Lower end of the 95 % interval; None if the noise can't be estimated."""
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How much runs differ whose settings are the same."""

    outcome: str
    sd: float | None
    """Standard deviation between seeds; None if no seed is repeated."""
    df: int


@dataclass(frozen=True, kw_only=True)
class _SettingMeans:
    """M outcomes that the same runs have, averaged over the runs of each of C settings."""

    outcomes: list[str]
    settings: pd.DataFrame
    weight: Floats
    """(C,) number of runs of each setting."""
    means: Floats
    """(C, M)"""
    within: Floats
    """(M,) sum of squares within settings, which is between seeds."""
    within_df: int

    @property
    def variance(self) -> Floats | None:
        """(M,) variance between seeds; None if no seed is repeated."""
        return self.within / self.within_df if self.within_df else None

    @property
    def total(self) -> Floats:
        """(M,) sum of squares over all runs."""
        deviations = self.means - (self.weight @ self.means) / self.weight.sum()
        return (deviations**2 * self.weight[:, None]).sum(0) + self.within

    @property
    def runs(self) -> int:
        """Number of runs."""
        return int(self.weight.sum())


@dataclass(frozen=True)
class _Model:
    """The linear model of the outcomes that the same runs have."""

    axes: Sequence[Axis]
    data: _SettingMeans
    design: Design
    fit: LinearModel


def effects(
    runs: pd.DataFrame, axes: Sequence[Axis], outcomes: Sequence[str]
) -> tuple[tuple[Effect, ...], tuple[Level, ...], tuple[Noise, ...]]:
    """Effects, effects of levels, and noise, for every outcome that at least two runs have; one row is one run."""
    all_effects: list[Effect] = []
    all_levels: list[Level] = []
    all_noise: list[Noise] = []
    for present, names in _same_runs(runs, outcomes) if axes else ():
        data = _setting_means(runs[present], axes, names)
        coded = {axis.name: axis.columns(data.settings[axis.name]) for axis in axes}
        columns = design(coded, axes)
        model = _Model(axes, data, columns, LinearModel.of(columns.columns, data.weight, data.means))
        by_shuffling = {} if data.variance is None else shuffle_p_values(coded, axes, data.weight, data.means)
        all_effects += _effects(model, by_shuffling)
        all_levels += _levels(model)
        sds = [None] * len(names) if data.variance is None else [float(sd) for sd in np.sqrt(data.variance)]
        all_noise += [Noise(outcome=name, sd=sd, df=data.within_df) for name, sd in zip(names, sds, strict=True)]
    return tuple(all_effects), tuple(all_levels), tuple(all_noise)


def _same_runs(runs: pd.DataFrame, outcomes: Sequence[str]) -> list[tuple[Floats, list[str]]]:
    """The outcomes grouped by the runs that have them."""
    groups: dict[bytes, tuple[Floats, list[str]]] = {}
    for name in outcomes:
        present = np.isfinite(runs[name].to_numpy(dtype=float))
        if present.sum() > 1:
            groups.setdefault(present.tobytes(), (present, []))[1].append(name)
    return list(groups.values())


def _setting_means(runs: pd.DataFrame, axes: Sequence[Axis], outcomes: list[str]) -> _SettingMeans:
    names = [axis.name for axis in axes]
    setting = runs.groupby(names, sort=False, dropna=False).ngroup().to_numpy()
    settings = runs[names].iloc[np.unique(setting, return_index=True)[1]].reset_index(drop=True)
    values, weight = runs[outcomes].to_numpy(dtype=float), np.bincount(setting).astype(float)
    means = np.stack([np.bincount(setting, weights=column) for column in values.T], axis=1) / weight[:, None]
    return _SettingMeans(
        outcomes=outcomes,
        settings=settings,
        weight=weight,
        means=means,
        within=((values - means[setting]) ** 2).sum(0),
        within_df=len(runs) - len(settings),
    )


def _type_two(model: _Model) -> list[tuple[Term, Floats, int]]:
    """The terms that can be separated, their sums of squares (M,) given the others, and their degrees of freedom."""
    separable = []
    for term in model.design.terms:
        others = [t.columns for t in model.design.terms if not set(term.axes) <= set(t.axes)]
        without = [0, *(i for columns in others for i in range(columns.start, columns.stop))]
        less, rank = model.fit.explained(without)
        more, rank_with = model.fit.explained([*without, *range(term.columns.start, term.columns.stop)])
        if rank_with > rank:
            separable.append((term, np.maximum(more - less, 0.0), rank_with - rank))
    return separable


def _error(model: _Model, variance: Floats) -> tuple[Floats, Floats]:
    """(M,) variance that the terms are judged by, usually that between seeds, and its degrees of freedom.

    If the settings are not a whole grid with equally many runs each, what the model fails to explain (a bend, a missing
    interaction) leaks into inert terms. If that is more than noise, the terms are judged by it.
    """
    weight, noise_df = model.data.weight, model.data.within_df
    df = np.full(len(variance), float(noise_df))
    explained, rank = model.fit.explained(range(len(model.fit.gram)))
    whole_grid = len(weight) == np.prod([len(axis.levels) for axis in model.axes]) and len(set(weight)) == 1
    misfit_df = len(weight) - rank
    if misfit_df <= 0 or (whole_grid and not any(axis.continuous for axis in model.axes)):
        return variance, df
    misfit = np.maximum((weight @ model.data.means**2) - explained, 0.0) / misfit_df
    shows = misfit > stats.f.ppf(1 - MISFIT_LEVEL, misfit_df, noise_df) * variance
    return np.where(shows, misfit, variance), np.where(shows, misfit_df, df)


def _effects(model: _Model, by_shuffling: dict[str, Floats]) -> list[Effect]:
    """The effects of all terms on each outcome; `by_shuffling` has p-values (M,) of drawn axes."""
    data, terms = model.data, _type_two(model)
    if not terms:
        return []
    squares: Floats = np.array([squares for _, squares, _ in terms])
    dfs = np.array([[df] for *_, df in terms], dtype=float)
    shares = _ratio(100 * squares, data.total)
    floors = adjusted = None
    if data.variance is not None:
        variance, error_df = _error(model, data.variance)
        with np.errstate(divide="ignore", invalid="ignore"):
            f = np.nan_to_num(squares / dfs / variance, nan=0.0, posinf=np.inf)  # 0 / 0: nothing to explain
        critical: Floats = stats.f.ppf(1 - LEVEL, dfs, error_df)
        floors = _ratio(100 * dfs * variance * critical, data.total)
        adjusted = holm(stats.f.sf(f, dfs, error_df))
    judged = []
    for i, outcome in enumerate(data.outcomes):
        for j, (term, _, df) in enumerate(terms):
            noise = None if adjusted is None else float(adjusted[j, i])
            chance = max(float(by_shuffling[axis][i]) if axis in by_shuffling else 0.0 for axis in term.axes)
            effect = Effect(
                outcome=outcome,
                term=term.name,
                share_percent=float(shares[j, i]),
                df=df,
                floor_percent=None if floors is None else float(floors[j, i]),
                p_value=None if noise is None else max(noise, chance),
                verdict=_verdict(noise, chance),
                runs=data.runs,
            )
            judged.append(effect)
    return judged


def _ratio(part: Floats, total: Floats) -> Floats:
    """(T, M) part / total; 0 where the total is 0."""
    return np.divide(part, total, out=np.zeros_like(part), where=total > 0)


def _verdict(noise: float | None, chance: float) -> str:
    """The verdict from the adjusted p-values of noise and of shuffled values."""
    if noise is None:
        return UNKNOWN
    if noise >= LEVEL:
        return UNDER
    return UNSURE if chance >= LEVEL else MATTERS


def _levels(model: _Model) -> list[Level]:
    """The effects of the levels of axes that are not continuous; none if the main effects can't be estimated.

    Interactions are in the model if all can be estimated. The noise is that between seeds. If no seed is repeated, or
    interactions are left out, it is what the model doesn't explain.
    """
    width = _estimable_width(model)
    if width is None:
        return []
    inverse = np.linalg.inv(model.fit.gram[:width, :width])
    coefficients = inverse @ model.fit.moment[:width]
    squares, df = _level_noise(model, width, coefficients)
    levels = []
    for axis, term in zip(model.axes, model.design.terms, strict=False):
        if axis.continuous:
            continue
        code = axis.columns(pd.Series(axis.levels, name=axis.name, dtype=object))
        effect = code @ coefficients[term.columns]
        spread = np.sqrt(np.einsum("lc,cd,ld->l", code, inverse[term.columns, term.columns], code))
        for i, outcome in enumerate(model.data.outcomes):
            halves = stats.t.ppf(0.975, df) * np.sqrt(squares[i] / df) * spread if df > 0 else None
            for j, level in enumerate(axis.levels):
                value = float(effect[j, i])
                low, high = (None, None) if halves is None else (value - float(halves[j]), value + float(halves[j]))
                levels.append(Level(outcome=outcome, axis=axis.name, level=level, effect=value, low=low, high=high))
    return levels


def _estimable_width(model: _Model) -> int | None:
    """How many of the first columns can be estimated: all, or those of the main effects; None if not even these."""
    for width in (model.design.columns.shape[1], model.design.main_width):
        if np.linalg.matrix_rank(model.fit.gram[:width, :width], hermitian=True) == width:
            return width
    return None


def _level_noise(model: _Model, width: int, coefficients: Floats) -> tuple[Floats, int]:
    """(M,) sum of squares that the intervals of levels are made from, and its degrees of freedom."""
    data, columns = model.data, model.design.columns
    with_interactions = width == columns.shape[1] and (
        len(model.design.terms) > len(model.axes) or len(model.axes) == 1
    )
    if with_interactions and data.within_df > 0:
        return data.within, data.within_df
    residual = data.means - columns[:, :width] @ coefficients
    return (residual**2 * data.weight[:, None]).sum(0) + data.within, data.runs - width
