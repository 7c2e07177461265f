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
from sweep.analysis.linear_model import Fit, by_chance, holm

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


def effects(
    runs: pd.DataFrame, found: Sequence[Axis], outcomes: Sequence[str]
) -> tuple[tuple[Effect, ...], tuple[Level, ...], tuple[Noise, ...]]:
    """Effects, effects of levels and noise of every outcome that at least two runs have; a row of `runs` is a run."""
    made: tuple[list[Effect], list[Level], list[Noise]] = ([], [], [])
    chance: dict[tuple[str, str], float] = {}
    if not found:
        return (), (), ()
    for there, names in _alike(runs, outcomes):
        cells, weight, means, noise, noise_df = _cells(runs[there], found, names)
        by_axis = coded(cells, found)
        columns, terms = model(by_axis, found)
        fit = Fit.of(columns, weight, means)
        total = ((means - (weight @ means) / weight.sum()) ** 2 * weight[:, None]).sum(0) + noise
        variance = noise / noise_df if noise_df else None
        error = None if variance is None else _error(fit, found, weight, means, variance, noise_df)
        if error is not None:
            for axis, often in by_chance(by_axis, found, weight, means).items():
                chance |= {(name, axis): float(p) for name, p in zip(names, often, strict=True)}
        for term, squares, df in _type_two(fit, terms):
            made[0].extend(_effects(term.name, squares, df, total, error, names, int(weight.sum())))
        made[1].extend(_levels(fit, columns, terms, found, weight, means, noise, noise_df, names))
        made[2].extend(
            Noise(outcome=name, sd=None if variance is None else float(np.sqrt(variance[i])), df=noise_df)
            for i, name in enumerate(names)
        )
    return tuple(_adjusted(made[0], chance)), tuple(made[1]), tuple(made[2])


def _alike(runs: pd.DataFrame, outcomes: Sequence[str]) -> list[tuple[Floats, list[str]]]:
    """The outcomes grouped by the runs that have them."""
    groups: dict[bytes, tuple[Floats, list[str]]] = {}
    for name in outcomes:
        there = np.isfinite(runs[name].to_numpy(dtype=float))
        if there.sum() > 1:
            groups.setdefault(there.tobytes(), (there, []))[1].append(name)
    return list(groups.values())


def _cells(
    runs: pd.DataFrame, found: Sequence[Axis], names: list[str]
) -> tuple[pd.DataFrame, Floats, Floats, Floats, int]:
    """Settings of the C cells, runs in each (C,), means (C, M), sums of squares within (M,), and their degrees."""
    grouped = runs.groupby([axis.name for axis in found], sort=False, dropna=False)
    cell = grouped.ngroup().to_numpy()
    cells = runs[[axis.name for axis in found]].iloc[np.unique(cell, return_index=True)[1]].reset_index(drop=True)
    values, weight = runs[names].to_numpy(dtype=float), np.bincount(cell).astype(float)
    means = np.stack([np.bincount(cell, weights=column) for column in values.T], axis=1) / weight[:, None]
    return cells, weight, means, ((values - means[cell]) ** 2).sum(0), len(runs) - len(cells)


def _type_two(fit: Fit, terms: Sequence[Term]) -> list[tuple[Term, Floats, int]]:
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


def _error(
    fit: Fit, found: Sequence[Axis], weight: Floats, means: Floats, variance: Floats, noise_df: int
) -> tuple[Floats, Floats]:
    """(M,) variance that terms are judged by and its degrees of freedom: that between seeds.

    Where the cells are no whole grid of as many runs each, what the model leaves over (an interaction it hasn't, a
    bend) leaks into terms that are inert: where it shows above the noise they are judged by it.
    """
    df = np.full(len(variance), float(noise_df))
    explained, rank = fit.explained(range(len(fit.gram)))
    balanced = len(weight) == np.prod([len(axis.levels) for axis in found]) and len(set(weight)) == 1
    if (left_df := len(weight) - rank) <= 0 or (balanced and not any(axis.continuous for axis in found)):
        return variance, df
    left = np.maximum((weight @ means**2) - explained, 0.0) / left_df
    shows = left > stats.f.ppf(1 - SHOWS, left_df, noise_df) * variance
    return np.where(shows, left, variance), np.where(shows, left_df, df)


def _effects(
    term: str, squares: Floats, df: int, total: Floats, error: tuple[Floats, Floats] | None, names: list[str], n: int
) -> list[Effect]:
    made = []
    for i, name in enumerate(names):
        share = 100 * squares[i] / total[i] if total[i] > 0 else 0.0
        floor = p_value = None
        if error is not None:
            variance, error_df = error[0][i], error[1][i]
            ratio = squares[i] / df / variance if variance > 0 else np.inf if squares[i] > 0 else 0.0
            p_value = float(stats.f.sf(ratio, df, error_df))
            floor = float(100 * df * variance * stats.f.ppf(1 - LEVEL, df, error_df) / total[i]) if total[i] else 0.0
        made.append(
            Effect(
                outcome=name,
                term=term,
                share_percent=float(share),
                df=df,
                floor_percent=floor,
                p_value=p_value,
                verdict=UNKNOWN,
                runs=n,
            )
        )
    return made


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


def _levels(
    fit: Fit,
    columns: Floats,
    terms: Sequence[Term],
    found: Sequence[Axis],
    weight: Floats,
    means: Floats,
    noise: Floats,
    noise_df: int,
    names: list[str],
) -> list[Level]:
    """Of axes with few levels: with interactions where every one can be estimated, of main effects alone elsewhere.

    The noise is that between seeds; where none is repeated, or interactions are left out, what the model leaves over.
    """
    used = columns.shape[1]
    if np.linalg.matrix_rank(fit.gram, hermitian=True) < used:
        used = max((t.columns.stop for t in terms if len(t.axes) == 1), default=1)
        if np.linalg.matrix_rank(fit.gram[:used, :used], hermitian=True) < used:
            return []
    with_interactions = used == columns.shape[1] and (len(terms) > len(found) or len(found) == 1)
    whole = with_interactions and noise_df > 0
    inverse = np.linalg.inv(fit.gram[:used, :used])
    coefficients = inverse @ fit.moment[:used]
    left = ((means - columns[:, :used] @ coefficients) ** 2 * weight[:, None]).sum(0) + noise
    squares, df = (noise, noise_df) if whole else (left, int(weight.sum()) - used)
    made = []
    for axis, term in zip(found, terms, strict=False):
        if axis.continuous:
            continue
        code = axis.columns(pd.Series(axis.levels, name=axis.name, dtype=object))
        effect = code @ coefficients[term.columns]
        spread = np.sqrt(np.einsum("lc,cd,ld->l", code, inverse[term.columns, term.columns], code))
        for i, name in enumerate(names):
            half = stats.t.ppf(0.975, df) * np.sqrt(squares[i] / df) * spread if df > 0 else None
            for j, level in enumerate(axis.levels):
                made.append(
                    Level(
                        outcome=name,
                        axis=axis.name,
                        level=level,
                        effect=float(effect[j, i]),
                        low=None if half is None else float(effect[j, i] - half[j]),
                        high=None if half is None else float(effect[j, i] + half[j]),
                    )
                )
    return made
