"""What runs that were not made would give, by annealing laws and by a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.factors import Axis
from sweep.analysis.gaussian_process import Surface
from sweep.analysis.laws import LAWS, Curve, FittedLaw, fit_law
from sweep.analysis.outcomes import Outcome
from sweep.analysis.pretraining import past_of
from sweep.domain.digests import digest
from sweep.domain.schedule import Warmup, learning_rates
from sweep.planning.names import is_of_checkpoint, told_apart

MOST_FOLDS = 12
"""Settings that are left out of a law's fit, one at a time, for the cross-validation error."""
MOST_CANDIDATES = 4000
MOST_SETTINGS = 80
"""Settings that laws are fitted to; of more, a random sample of this size."""
Settings = tuple[tuple[str, object], ...]
"""Axes and levels."""


@dataclass(frozen=True, kw_only=True)
class LawError:
    """How well a law predicts the loss at the end of an anneal that it was not fitted to."""

    law: str
    model: str
    runs: int
    fitted_error: float
    """Mean absolute error at the settings that it was fitted to, nats."""
    cross_validation_error: float
    """Root mean square error at settings left out of the fit, one at a time, nats."""
    spread: float
    """Standard deviation of the losses, which is the error of predicting their mean, nats."""
    parameters: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction of one run that was not made."""

    outcome: str
    settings: Settings
    by: str
    """The name of a law, or "gaussian process"."""
    value: float
    """The process predicts after - before, a law the loss after."""
    low: float
    """Lower end of the 95 % interval of a run."""
    high: float
    expected_improvement: float | None
    """Expected amount by which it is better than the best setting; None if predicted by a law."""


@dataclass(frozen=True)
class MeasuredLoss:
    """A measured loss, and what a law that was fitted to it gives, nats."""

    law: str
    run: str
    measured: float
    fitted: float


@dataclass(frozen=True)
class LawAnswer:
    """What one law says that was fitted to the runs of one model."""

    error: LawError
    losses: tuple[MeasuredLoss, ...]
    predictions: tuple[Prediction, ...]


def run_curve(row: pd.Series, loss: float) -> Curve:
    """The learning rates of a run, after the one before its first update, and the loss at its end."""
    lr, steps = float(row["position/lr"]), int(row["anneal.steps"])
    rates = np.empty(0)
    if steps:
        start = 0.0 if row["anneal.optimizer"] == "fresh" else lr
        rates = learning_rates(
            row["anneal.shape"],
            steps=steps,
            peak=peak_lr(row),
            final_fraction=float(row["anneal.final_fraction"]),
            hold_steps=int(row["anneal.hold_steps"]),
            warmup=Warmup(steps=int(row["anneal.warmup_steps"]), start=start),
        )
    whole = np.concatenate([[lr], rates])
    return Curve(str(row["name"]), whole, np.array([len(whole)]), np.array([loss]), past_of(row))


def peak_lr(row: pd.Series) -> float:
    """The learning rate that the decay of a run starts from, as `plan.planned_peak` has it."""
    if not isinstance(row["anneal.peak_lr"], str):
        return float(row["anneal.peak_lr"])
    scale = row["anneal.peak_scale"]
    return float(row["position/lr"]) * (1.0 if isinstance(scale, str) else float(scale))


def law_answers(
    runs: pd.DataFrame, axes: Sequence[Axis], outcome: Outcome, not_run: pd.DataFrame
) -> tuple[LawAnswer, ...]:
    """For each model the laws fitted to the losses at the ends of its runs, and predictions for settings not run.

    `runs` are anneals and constant controls on the checkpoint's own data, with the batch size and sequence length of
    pretraining.
    """
    column, names = outcome.column("after"), [axis.name for axis in axes]
    answers = []
    for model, group in _trainings(runs.dropna(subset=[column])):
        curves = [run_curve(row, row[column]) for _, row in _setting_means(group, names, column).iterrows()]
        new = dict(_new_curves(group, names, not_run))
        for law in LAWS:
            if len(curves) > len(law.parameters):
                fitted = fit_law(law, curves)
                error = _law_error(fitted, curves, model, len(group))
                losses = tuple(MeasuredLoss(law.name, c.name, float(c.loss[0]), _end(fitted, c)) for c in curves)
                degrees = len(curves) - len(law.parameters)
                half = float(stats.t.ppf(0.975, degrees)) * error.cross_validation_error
                answers.append(LawAnswer(error, losses, _by_law(fitted, new, half, outcome.name)))
    return tuple(answers)


def _trainings(runs: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """The runs of each training that has checkpoints among them, with its name, which no other one has.

    A training is told from others by all choices of its model; folders of the user's own belong to one training if
    they lie in one folder, as OLMo saves them.
    """
    if runs.empty:
        return
    choices = [name for name in map(str, runs) if name == "model" or name.startswith("model.")]
    places = [str(path).rstrip("/").rpartition("/")[0] for path in runs.get("checkpoint.path", ["null"] * len(runs))]
    of_model = runs[choices].astype(object).where(runs[choices].notna(), None).assign(**{"checkpoint.path": places})
    number = of_model.groupby([*of_model], sort=False, dropna=False).ngroup()
    first = of_model.loc[~number.duplicated()]
    keys = [digest(row) for row in first.astype(str).to_dict("records")]
    names = told_apart([str(name) for name in first["model"]], first.to_dict("records"), keys)
    for (_, group), name in zip(runs.groupby(number.to_numpy(), sort=False), names, strict=True):
        yield name, group


def _new_curves(group: pd.DataFrame, names: Sequence[str], not_run: pd.DataFrame) -> Iterable[tuple[Settings, Curve]]:
    """The curves of the settings not run, at checkpoints that the group has."""
    of_checkpoint = [name for name in names if is_of_checkpoint(name)]
    known = {tuple(row[of_checkpoint]): row for _, row in group.drop_duplicates("checkpoint").iterrows()}
    for _, row in not_run.iterrows():
        if (place := tuple(row[of_checkpoint])) in known:
            yield tuple(row[list(names)].items()), run_curve(pd.Series({**known[place], **row}), 1.0)


def _end(law: FittedLaw, curve: Curve) -> float:
    """The loss that the law gives at the end of a run."""
    return float(law.predict(curve)[0])


def _law_error(fitted: FittedLaw, curves: Sequence[Curve], model: str, runs: int) -> LawError:
    losses = np.array([curve.loss[0] for curve in curves])
    errors = []
    for i in np.random.default_rng(0).permutation(len(curves))[:MOST_FOLDS]:
        others = fit_law(fitted.law, [curve for j, curve in enumerate(curves) if j != i], fitted)
        errors.append(_end(others, curves[i]) - losses[i])
    parameters = zip(fitted.law.parameters, fitted.parameters, strict=True)
    return LawError(
        law=fitted.law.name,
        model=model,
        runs=runs,
        fitted_error=float(np.abs([_end(fitted, curve) for curve in curves] - losses).mean()),
        cross_validation_error=float(np.sqrt(np.mean(np.square(errors)))),
        spread=float(losses.std()),
        parameters=", ".join(f"{parameter.name} {value:.3g}" for parameter, value in parameters),
    )


def _by_law(fitted: FittedLaw, new: Mapping[Settings, Curve], half: float, outcome: str) -> tuple[Prediction, ...]:
    values = {settings: _end(fitted, curve) for settings, curve in new.items()}
    return tuple(
        Prediction(
            outcome=outcome,
            settings=settings,
            by=fitted.law.name,
            value=value,
            low=value - half,
            high=value + half,
            expected_improvement=None,
        )
        for settings, value in values.items()
    )


def by_surface(surface: Surface, outcome: Outcome, best: float, not_run: pd.DataFrame) -> tuple[Prediction, ...]:
    """What the process predicts for settings not run, the most promising first; `best` is the best mean delta."""
    if not_run.empty:
        return ()
    mean, sd = surface.predict(not_run)
    better = outcome.sign * (mean - best)
    expected = better * stats.norm.cdf(better / sd) + sd * stats.norm.pdf(better / sd)
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
        for i in np.argsort(-expected, kind="stable")
    )


def settings_not_run(runs: pd.DataFrame, axes: Sequence[Axis]) -> pd.DataFrame:
    """The settings that no run has, in the grid of all levels and of the middles between neighbouring numbers.

    Axes of the checkpoint have no middles, because there are no checkpoints between those of the sweep.
    """
    levels = [_with_middles(axis) for axis in axes]
    rows: Iterable[tuple[object, ...]] = product(*levels)
    if math.prod(map(len, levels)) > MOST_CANDIDATES:
        rng = np.random.default_rng(0)
        drawn = [[of_axis[i] for i in rng.integers(0, len(of_axis), MOST_CANDIDATES)] for of_axis in levels]
        rows = dict.fromkeys(zip(*drawn, strict=True))
    names = [axis.name for axis in axes]
    run = set(runs[names].itertuples(index=False, name=None))
    return pd.DataFrame([row for row in rows if row not in run], columns=names)


def _with_middles(axis: Axis) -> tuple[object, ...]:
    if is_of_checkpoint(axis.name) or axis.continuous or not axis.numeric:
        return axis.levels
    whole = all(isinstance(level, int | np.integer) for level in axis.levels)
    middles: list[object] = []
    for low, high in pairwise(axis.levels):
        middle = (low * high) ** 0.5 if axis.log else (low + high) / 2
        middles.append(round(middle) if whole else float(f"{middle:.3g}"))
    return tuple(sorted({*axis.levels, *middles}))


def _setting_means(runs: pd.DataFrame, names: Sequence[str], column: str) -> pd.DataFrame:
    """One row for each setting and arm: its first run, with the mean over seeds."""
    grouped = runs.groupby(list(dict.fromkeys([*names, "arm", "anneal.steps"])), sort=False, dropna=False)
    first = runs.loc[grouped.head(1).index].copy()
    first[column] = grouped[column].transform("mean").loc[first.index]
    return first.sample(min(len(first), MOST_SETTINGS), random_state=0).sort_index()
