"""All answers of one report, computed from the table of outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweep.analysis.candidates import sweep_ranking
from sweep.analysis.checkpoints import CheckpointScores, checkpoint_scores
from sweep.analysis.comparisons import PairedDocuments, all_gains
from sweep.analysis.effects import Effect, Level, Noise, effects
from sweep.analysis.factors import Axis, varying_axes
from sweep.analysis.gains import Gain
from sweep.analysis.gaussian_process import Importance, fit_surface, importances
from sweep.analysis.leading import Lead, in_order, leads
from sweep.analysis.outcomes import (
    HELDOUT,
    Outcome,
    chosen_outcomes,
    primary_outcomes,
    reported_outcomes,
    with_task_means,
)
from sweep.analysis.predictions import (
    LawAnswer,
    LawError,
    MeasuredLoss,
    Prediction,
    by_surface,
    law_answers,
    settings_not_run,
)
from sweep.analysis.ranking import DecisionAccuracy, Place, Ranking
from sweep.analysis.settings import SettingGain, setting_gains, settings_text
from sweep.analysis.signal_to_noise import SignalToNoise, signal_to_noise

MOST_PREDICTIONS = 50
TABLES = (
    *("effects", "levels", "noise", "importances", "gains", "settings", "checkpoints", "places", "orders", "tasks"),
    *("laws", "predictions"),
)
"""The answers that are tables of a report, in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What the runs of a report show."""

    runs: pd.DataFrame
    """All runs, one in each row, finished or not."""
    axes: tuple[Axis, ...]
    outcomes: tuple[Outcome, ...]
    primary: tuple[Outcome, ...]
    """The outcomes that are looked at closely, those first that can tell."""
    leads: tuple[Lead, ...]
    """Which measure of each suite can tell, and why."""
    gains: tuple[Gain, ...]
    """What each run gained."""
    helped: tuple[Gain, ...]
    """What each setting gained, over its seeds and documents together."""
    effects: tuple[Effect, ...]
    levels: tuple[Level, ...]
    noise: tuple[Noise, ...]
    importances: tuple[Importance, ...]
    settings: tuple[SettingGain, ...]
    checkpoints: tuple[CheckpointScores, ...]
    ranking: Ranking
    tasks: tuple[SignalToNoise, ...]
    laws: tuple[LawError, ...]
    law_losses: tuple[MeasuredLoss, ...]
    predictions: tuple[Prediction, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """The checkpoints in their order."""
        return self.ranking.places

    @property
    def orders(self) -> tuple[DecisionAccuracy, ...]:
        """How well each score gives that order."""
        return self.ranking.decisions

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables of the report by name, without empty ones."""
        return {name: table(getattr(self, name)) for name in TABLES if getattr(self, name)}

    def gained(self) -> tuple[Outcome, ...]:
        """The primary outcomes that an anneal has; controls may have been scored on other tasks."""
        return tuple(o for o in self.primary if any(setting.outcome == o.name for setting in self.settings))

    def finished_anneals(self) -> pd.DataFrame:
        """The rows of the runs that are finished anneals."""
        return _anneals(self.runs[self.runs["status"] == "finished"])


def answer(runs: pd.DataFrame, params: Sequence[str], paired: PairedDocuments) -> Answers:
    """All answers that these runs allow; `runs` are as `sweeps.outcomes.frame` gives them.

    `params` are the columns in which runs may differ by choice, and of digests those that no choice explains.
    """
    finished = with_task_means(runs[runs["status"] == "finished"])
    anneals = _anneals(finished)
    first = leads(anneals, params, reported := reported_outcomes(finished))
    primary = primary_outcomes(outcomes := in_order(reported, first))
    axes = varying_axes(anneals, params)
    deltas = {o.column("delta"): o.name for o in outcomes if o.column("delta") in anneals}
    all_effects, levels, noise = effects(anneals.rename(columns=deltas), axes, list(deltas.values()))
    measured = [o for o in primary if o.name in deltas.values() and anneals[o.column("delta")].notna().any()]
    best = tuple(setting for outcome in measured for setting in setting_gains(anneals, axes, outcome))
    of_checkpoints = {o: checkpoint_scores(finished, o) for o in (*primary, *chosen_outcomes(finished, outcomes))}
    laws = _laws(finished, axes, measured)
    gains = all_gains(finished, [*params, "checkpoint", "data.digest"], outcomes, paired)
    return Answers(
        runs=runs,
        axes=axes,
        outcomes=outcomes,
        primary=primary,
        leads=first,
        gains=gains.of_runs,
        helped=gains.of_settings,
        effects=all_effects,
        levels=levels,
        noise=noise,
        importances=tuple(i for o in measured for i in importances(anneals, axes, o.name, o.column("delta"))),
        settings=best,
        checkpoints=tuple(scores for group in of_checkpoints.values() for scores in group),
        ranking=sweep_ranking(finished, axes, outcomes, primary, paired),
        tasks=signal_to_noise(anneals, axes, outcomes),
        laws=tuple(law.error for law in laws),
        law_losses=tuple(loss for law in laws for loss in law.losses),
        predictions=(
            *_by_surface(anneals, axes, measured, best),
            *(prediction for law in laws for prediction in law.predictions),
        ),
    )


def table(records: Iterable[Any]) -> pd.DataFrame:
    """Records of one kind as a table, with settings as text."""
    rows = [vars(record) for record in records]
    frame = pd.DataFrame(rows)
    if "settings" in frame:
        frame["settings"] = [settings_text(row["settings"]) for row in rows]
    return frame


def _anneals(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows whose arm is an anneal; none if no run has an arm."""
    return runs[runs["arm"] == "decay"] if "arm" in runs else runs[:0]


def _by_surface(
    anneals: pd.DataFrame, axes: tuple[Axis, ...], outcomes: Sequence[Outcome], settings: Sequence[SettingGain]
) -> list[Prediction]:
    """The most promising predictions of a Gaussian process, for each outcome."""
    predictions: list[Prediction] = []
    not_run = settings_not_run(anneals, axes) if axes and outcomes else pd.DataFrame()
    for outcome in outcomes if axes else ():
        surface = fit_surface(anneals, axes, outcome.column("delta"))
        if surface is not None:
            best = max(setting.gain for setting in settings if setting.outcome == outcome.name) * outcome.sign
            predictions += by_surface(surface, outcome, best, not_run)[:MOST_PREDICTIONS]
    return predictions


def _laws(finished: pd.DataFrame, axes: tuple[Axis, ...], outcomes: Sequence[Outcome]) -> tuple[LawAnswer, ...]:
    """The annealing laws of the held-out loss; none if it isn't measured."""
    loss = next((o for o in outcomes if o.metric == "loss" and o.plain_task == HELDOUT), None)
    if loss is None or not axes:
        return ()
    trained = finished[finished["arm"].isin(("decay", "constant"))]
    return law_answers(trained, axes, loss, settings_not_run(_anneals(finished), axes).head(MOST_PREDICTIONS))
