"""All answers of one report, from the table of outcomes: what `report` writes down and `figures` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sweep.analysis.checkpoints import Order, Ranked, order, ranked
from sweep.analysis.effects import Effect, Level, Noise, effects
from sweep.analysis.factors import Axis, axes
from sweep.analysis.gains import Compared, Floats, Gain, from_checkpoint, gain, matched_controls
from sweep.analysis.gaussian_process import Importance, importances, surface
from sweep.analysis.outcomes import HELDOUT, Outcome, chosen_outcomes, members, outcomes, primary, with_task_means
from sweep.analysis.predictions import LawAnswers, LawError, Prediction, law_answers, predictions_of, settings_not_run
from sweep.analysis.settings import SettingGain, settings
from sweep.analysis.signal_to_noise import SignalToNoise, signal_to_noise

PAIRED = 40
"""Runs whose documents are read, and which are held against their constant arms."""
MOST_PREDICTIONS = 50

Documents = Iterable[tuple[Outcome, tuple[Floats, Floats]]]
Paired = Callable[[pd.Series, pd.Series | None, Sequence[Outcome]], Documents]
"""Documents' values of a run's outcomes, (before, after), or with another run (its after, the run's after)."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a sweep says."""

    runs: pd.DataFrame
    """All its runs, failed ones too, a row each."""
    axes: tuple[Axis, ...]
    outcomes: tuple[Outcome, ...]
    primary: tuple[Outcome, ...]
    gains: tuple[Gain, ...]
    effects: tuple[Effect, ...]
    levels: tuple[Level, ...]
    noise: tuple[Noise, ...]
    importances: tuple[Importance, ...]
    settings: tuple[SettingGain, ...]
    ranked: tuple[Ranked, ...]
    orders: tuple[Order, ...]
    signal_to_noise: tuple[SignalToNoise, ...]
    laws: tuple[LawError, ...]
    law_points: tuple[tuple[str, str, float, float], ...]
    """(law, run, measured loss, the law's)."""
    predictions: tuple[Prediction, ...]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Name -> table, as the CSV files have them."""
        made = {
            "effects": table(self.effects),
            "levels": table(self.levels),
            "noise": table(self.noise),
            "importances": table(self.importances),
            "gains": table(self.gains),
            "settings": table(self.settings),
            "checkpoints": table(self.ranked),
            "orders": table(self.orders),
            "tasks": table(self.signal_to_noise),
            "laws": table(self.laws),
            "predictions": table(self.predictions),
        }
        return {name: frame for name, frame in made.items() if len(frame)}


def answer(runs: pd.DataFrame, params: Sequence[str], paired: Paired) -> Answers:
    """Everything that these runs allow; `runs` as `outcomes.frame` gives them, finished or not."""
    finished = with_task_means(runs[runs["status"] == "finished"])
    found = outcomes(finished)
    few = primary(found)
    anneals = finished[finished["arm"] == "decay"]
    varying = axes(anneals, params)
    deltas = {o.column("delta"): o.name for o in found if o.column("delta") in anneals}
    affected, levels, noise = effects(anneals.rename(columns=deltas), varying, list(deltas.values()))
    close = [o for o in few if o.column("delta") in anneals and anneals[o.column("delta")].notna().any()]
    best_settings = [setting for outcome in close for setting in settings(anneals, varying, outcome)]
    points = [ranked(finished, outcome) for outcome in (*few, *chosen_outcomes(finished, found))]
    laws = _laws(finished, varying, close)
    return Answers(
        runs=runs,
        axes=varying,
        outcomes=found,
        primary=few,
        gains=_gains(finished, params, found, paired),
        effects=affected,
        levels=levels,
        noise=noise,
        importances=tuple(
            i for o in close if varying for i in importances(anneals, varying, o.name, o.column("delta"))
        ),
        settings=tuple(best_settings),
        ranked=tuple(dict.fromkeys(point for some in points for point in some)),
        orders=tuple(o for some in dict.fromkeys(points) if (o := order(some)) is not None),
        signal_to_noise=signal_to_noise(anneals, varying, found),
        laws=laws.errors,
        law_points=laws.measured,
        predictions=(*_by_process(anneals, varying, close, best_settings), *laws.predictions),
    )


def table(records: Iterable[Any]) -> pd.DataFrame:
    """Frozen records as a table, settings as text."""
    rows = [vars(record) for record in records]
    frame = pd.DataFrame(rows)
    if "settings" in frame:
        frame["settings"] = [settings_text(row["settings"]) for row in rows]
    return frame


def settings_text(settings: Iterable[tuple[str, object]]) -> str:
    """As overrides are typed."""
    return " ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in settings)


def _gains(finished: pd.DataFrame, params: Sequence[str], found: Sequence[Outcome], paired: Paired) -> tuple[Gain, ...]:
    """Of every run on its checkpoint; of PAIRED runs by document, and against their constant arms."""
    few = (*primary(found), *chosen_outcomes(finished, found))
    made = {(g.run, g.outcome): g for g in from_checkpoint(finished, list(dict.fromkeys((*found, *few))))}
    control = matched_controls(finished, params)
    against: list[Gain] = []
    suites = members(finished, found)
    lead = primary(found)[0].column("delta") if found else ""
    trained = finished[finished["arm"].isin(("decay", "merge", "constant"))]
    if lead in trained:
        trained = trained.sort_values(lead, ascending=primary(found)[0].sign < 0)
    for index, row in trained.head(PAIRED).iterrows():
        for outcome, documents in paired(row, None, few):
            if (known := made.get((row["name"], outcome.name))) is not None:
                made[row["name"], outcome.name] = _again(known, outcome, documents)
        if index in control:
            other = finished.loc[control[index]]
            against += _against(row, other, paired(row, other, few), suites)
    return (*made.values(), *against)


def _again(known: Gain, outcome: Outcome, documents: tuple[Floats, Floats]) -> Gain:
    compared = Compared(checkpoint=known.checkpoint, run=known.run, arm=known.arm, against=known.against)
    return gain(outcome, compared, first=known.first, second=known.second, stderr=known.stderr, documents=documents)


def _against(
    row: pd.Series,
    other: pd.Series,
    documents: Documents,
    suites: dict[Outcome, tuple[Outcome, ...]],
) -> list[Gain]:
    """A run less its constant arm: of what has documents, and of the suites all of whose tasks have."""
    compared = Compared(checkpoint=row["checkpoint"], run=row["name"], arm=row["arm"], against="constant")
    return [
        gain(
            outcome,
            compared,
            first=float(other[outcome.column("after")]),
            second=float(row[outcome.column("after")]),
            stderr=stderr,
            documents=values,
        )
        for outcome, stderr, values in _with_suites(documents, suites)
    ]


def _with_suites(
    documents: Documents, suites: dict[Outcome, tuple[Outcome, ...]]
) -> Iterator[tuple[Outcome, float, tuple[Floats, Floats] | None]]:
    """Each outcome with its standard error and its documents; a suite, which has none, by its tasks' errors."""
    errors: dict[Outcome, float] = {}
    for outcome, values in documents:
        errors[outcome] = _stderr(values)
        yield outcome, errors[outcome], values
    for mean, tasks in suites.items():
        if set(tasks) <= set(errors):
            yield mean, float(np.sqrt(sum(errors[task] ** 2 for task in tasks))) / len(tasks), None


def _stderr(documents: tuple[Floats, Floats]) -> float:
    """Of the mean difference."""
    difference = documents[1] - documents[0]
    return float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _by_process(
    anneals: pd.DataFrame, varying: tuple[Axis, ...], close: Sequence[Outcome], best: Sequence[SettingGain]
) -> tuple[Prediction, ...]:
    made: list[Prediction] = []
    if not varying:
        return ()
    not_run = settings_not_run(anneals, varying)
    for outcome in close:
        fitted = surface(anneals, varying, outcome.column("delta"))
        if fitted is None:
            continue
        top = max(setting.gain for setting in best if setting.outcome == outcome.name) * outcome.sign
        made += predictions_of(fitted, outcome, top, not_run)[:MOST_PREDICTIONS]
    return tuple(made)


def _laws(finished: pd.DataFrame, varying: tuple[Axis, ...], close: Sequence[Outcome]) -> LawAnswers:
    losses = [o for o in close if o.metric == "loss" and o.task.partition(":")[0] == HELDOUT]
    if not losses or not varying:
        return LawAnswers()
    trained = finished[finished["arm"].isin(("decay", "constant"))]
    not_run = settings_not_run(finished[finished["arm"] == "decay"], varying)
    return law_answers(trained, varying, losses[0], not_run.head(MOST_PREDICTIONS))
