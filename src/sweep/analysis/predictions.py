"""What the runs that were not made would give, by annealing laws and by a Gaussian process, and which to make next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis
from sweep.analysis.gaussian_process import Surface
from sweep.analysis.laws import LAWS, Curve, FittedLaw, LawFitter
from sweep.analysis.outcomes import Outcome
from sweep.domain.schedule import Warmup, learning_rates

MOST_LEFT_OUT = 12
"""Cells that a law is fitted without, one at a time, to see its error."""
MOST_CANDIDATES = 4000
MOST_SETTINGS = 80
"""That laws are fitted to; of more, so many drawn at random."""


@dataclass(frozen=True, kw_only=True)
class LawError:
    """How well a law foretells the loss at the end of an anneal that it has not seen."""

    law: str
    model: str
    runs: int
    fitted_error: float
    """Mean absolute error of the runs fitted, nats."""
    cross_validation_error: float
    """Root mean square error of settings left out, one at a time, nats."""
    spread: float
    """Standard deviation of the losses themselves: what guessing their mean would err by."""
    parameters: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One run that was not made."""

    outcome: str
    settings: tuple[tuple[str, object], ...]
    by: str
    """A law's name, or "gaussian process"."""
    value: float
    """Of after - before by the process, of the loss after by a law."""
    low: float
    """Ends of the 95 % interval of a run."""
    high: float
    expected_improvement: float | None
    """How much it is expected to better the best setting, chance counted; None: by a law."""


def curve(row: pd.Series, loss: float) -> Curve:
    """A run's learning rates, the one before its first update in front, and the loss at its end."""
    lr = float(row["position/lr"])
    steps = int(row["anneal.steps"])
    rates = np.empty(0)
    if steps:
        rates = learning_rates(
            row["anneal.shape"],
            steps=steps,
            peak=peak_of(row),
            final_fraction=float(row["anneal.final_fraction"]),
            hold_steps=int(row["anneal.hold_steps"]),
            warmup=Warmup(
                steps=int(row["anneal.warmup_steps"]), start=0.0 if row["anneal.optimizer"] == "fresh" else lr
            ),
        )
    whole = np.concatenate([[lr], rates])
    before = (float(row["position/step"]) - 1) * lr
    return Curve(str(row["name"]), whole, np.array([len(whole)]), np.array([loss]), before)


def peak_of(row: pd.Series) -> float:
    """The learning rate that a run's decay starts from, as `plan.planned_peak` has it."""
    if not isinstance(row["anneal.peak_lr"], str):
        return float(row["anneal.peak_lr"])
    scale = row["anneal.peak_scale"]
    return float(row["position/lr"]) * (1.0 if isinstance(scale, str) else float(scale))


@dataclass(frozen=True)
class LawAnswers:
    """What the annealing laws say of one table of runs."""

    errors: tuple[LawError, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    measured: tuple[tuple[str, str, float, float], ...] = ()
    """(law, run, measured loss, the law's loss) of every run."""


def law_answers(runs: pd.DataFrame, axes: Sequence[Axis], outcome: Outcome, not_run: pd.DataFrame) -> LawAnswers:
    """Laws fitted, for each model, to the losses at the ends of its runs, and their predictions for settings not run.

    `runs` are anneals and constant controls on the checkpoint's own data; batch size and sequence length are as in
    training.
    """
    errors: list[LawError] = []
    predictions: list[Prediction] = []
    measured: list[tuple[str, str, float, float]] = []
    column, names = outcome.column("after"), [axis.name for axis in axes]
    for model, mine in runs.dropna(subset=[column]).groupby("model", sort=False):
        means = _setting_means(mine, names, column)
        curves = [curve(row, row[column]) for _, row in means.iterrows()]
        same_model = not_run[not_run["model"] == model] if "model" in not_run else not_run
        for law, (fit, parameters) in LAWS.items():
            if len(curves) <= parameters:
                continue
            fitted = fit(curves)
            error = _law_error(law, fit, fitted, curves, model=str(model), runs=len(mine))
            errors.append(error)
            losses = ((c.name, float(c.loss[0]), float(fitted.predict(c)[0])) for c in curves)
            measured += [(law, *rest) for rest in losses]
            half = float(stats.t.ppf(0.975, max(len(curves) - parameters, 1))) * error.cross_validation_error
            for _, row in same_model.iterrows():
                value = float(fitted.predict(curve(_merged(mine.iloc[0], row), 1.0))[0])
                setting = tuple((name, row[name]) for name in names)
                predictions.append(_by_law(law, outcome, setting, value, half))
    return LawAnswers(tuple(errors), tuple(predictions), tuple(measured))


def _law_error(
    law: str, fit: LawFitter, fitted: FittedLaw, curves: Sequence[Curve], *, model: str, runs: int
) -> LawError:
    losses = np.array([curve.loss[0] for curve in curves])
    predicted = np.array([float(fitted.predict(curve)[0]) for curve in curves])
    return LawError(
        law=law,
        model=model,
        runs=runs,
        fitted_error=float(np.abs(predicted - losses).mean()),
        cross_validation_error=_cross_validation_error(fit, curves, fitted),
        spread=float(losses.std()),
        parameters=", ".join(f"{name} {value:.3g}" for name, value in fitted.parameters.items()),
    )


def _by_law(
    law: str, outcome: Outcome, setting: tuple[tuple[str, object], ...], value: float, half: float
) -> Prediction:
    return Prediction(
        outcome=outcome.name,
        settings=setting,
        by=law,
        value=value,
        low=value - half,
        high=value + half,
        expected_improvement=None,
    )


def settings_not_run(runs: pd.DataFrame, found: Sequence[Axis]) -> pd.DataFrame:
    """Cells of the grid of all levels, and of the middles between neighbouring numbers, that no run was made of.

    The checkpoint's own axes have no middles: a checkpoint is there or not.
    """
    levels = [axis.levels if _of_checkpoint(axis) or axis.continuous else _with_middles(axis) for axis in found]
    size = int(np.prod([len(some) for some in levels])) if levels else 0
    if size <= MOST_CANDIDATES:
        rows = list(product(*levels))
    else:
        rng = np.random.default_rng(0)
        picks = [rng.integers(0, len(some), MOST_CANDIDATES) for some in levels]
        rows = list(
            dict.fromkeys(
                zip(*([some[i] for i in pick] for some, pick in zip(levels, picks, strict=True)), strict=True)
            )
        )
    names = [axis.name for axis in found]
    made = set(runs[names].itertuples(index=False, name=None))
    return pd.DataFrame([row for row in rows if row not in made], columns=names)


def predictions_of(surface: Surface, outcome: Outcome, best: float, not_run: pd.DataFrame) -> tuple[Prediction, ...]:
    """What the process says of not_run settings, the most promising first; `best` is the best setting's mean delta."""
    if not_run.empty:
        return ()
    mean, sd = surface.at(not_run)
    better = outcome.sign * (mean - best)
    expected = better * stats.norm.cdf(better / sd) + sd * stats.norm.pdf(better / sd)
    ranked = np.argsort(-expected, kind="stable")
    return tuple(
        Prediction(
            outcome=outcome.name,
            settings=tuple(not_run.iloc[i].items()),
            by="gaussian process",
            value=float(mean[i]),
            low=float(mean[i] - 1.96 * sd[i]),
            high=float(mean[i] + 1.96 * sd[i]),
            expected_improvement=float(expected[i]),
        )
        for i in ranked
    )


def _of_checkpoint(axis: Axis) -> bool:
    return axis.name == "model" or axis.name.startswith(("checkpoint.", "model."))


def _with_middles(axis: Axis) -> tuple[object, ...]:
    if not axis.numeric:
        return axis.levels
    whole = all(isinstance(level, int | np.integer) for level in axis.levels)
    middles: list[object] = []
    for low, high in zip(axis.levels, axis.levels[1:], strict=False):
        middle = (low * high) ** 0.5 if axis.log else (low + high) / 2
        middles.append(round(middle) if whole else float(f"{middle:.3g}"))
    return tuple(sorted({*axis.levels, *middles}))


def _setting_means(runs: pd.DataFrame, names: Sequence[str], column: str) -> pd.DataFrame:
    """One row a setting and arm: the first run's, with the mean over seeds."""
    keys = [*names, "arm", "anneal.steps"]
    grouped = runs.groupby(list(dict.fromkeys(keys)), sort=False, dropna=False)
    first = runs.loc[grouped.head(1).index].copy()
    first[column] = grouped[column].transform("mean").loc[first.index]
    return first.sample(min(len(first), MOST_SETTINGS), random_state=0).sort_index()


def _cross_validation_error(fit: LawFitter, curves: Sequence[Curve], near: FittedLaw) -> float:
    chosen = np.random.default_rng(0).permutation(len(curves))[:MOST_LEFT_OUT]
    errors = []
    for i in chosen:
        others = [c for j, c in enumerate(curves) if j != i]
        errors.append(float(fit(others, near).predict(curves[i])[0] - curves[i].loss[0]))
    return float(np.sqrt(np.mean(np.square(errors))))


def _merged(template: pd.Series, row: pd.Series) -> pd.Series:
    merged = template.copy()
    for name, value in row.items():
        merged[name] = value
    return merged
