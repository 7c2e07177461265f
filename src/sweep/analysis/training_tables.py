"""What a table of somebody's trainings shows: checkpoints as they are, and as they are after an anneal.

A row is an evaluation. Rows of the arm `none` lie along a training, rows of the arm `decay` along an anneal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sweep.analysis.annealed_curves import Annealed, AnnealedCurves, fit_annealed_curves, last_left_out, noise_along
from sweep.analysis.factors import Floats
from sweep.analysis.gains import ALIKE, BETTER, WORSE, Z
from sweep.analysis.outcomes import Outcome
from sweep.analysis.ranking import AS_IS, Ranking, Scoring, rank, unpaired
from sweep.analysis.signal_to_noise import SeedNoise

NEEDED = ("checkpoint", "step", "tokens", "lr", "arm")
"""Columns that a table must have, besides its outcomes."""
NUMBERS = ("step", "tokens", "lr")
AS_SAVED, ANNEALED = ARMS = ("none", "decay")
"""Of a row along a training, and of a row along an anneal."""
OPTIONAL = {"training": "training", "anneal": "anneal", "seed": "0"}
"""Columns that a table may have -> the value of all rows if it has none."""
STDERR = "stderr/"
OF_ANNEAL = ["training", "checkpoint", "anneal", "seed"]
"""Columns that tell one anneal from another."""
CHECKPOINT, SAME_STEP = "checkpoint", "same step"
"""What an anneal is compared with: the checkpoint that it began at, or its training at the step where it ended."""
MOST_PLACES = 12
"""Checkpoints of a training for which the loss after an anneal is predicted."""


@dataclass(frozen=True)
class AnnealRows:
    """One anneal of a table."""

    training: str
    checkpoint: str
    anneal: str
    seed: str
    rows: pd.DataFrame
    """In the order of their steps; the first is where the anneal begins."""

    @property
    def identity(self) -> dict[str, str]:
        """What tells it from other anneals."""
        return {name: getattr(self, name) for name in OF_ANNEAL}


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Trainings and their anneals, and the outcomes in the order of their columns."""

    trainings: Mapping[str, pd.DataFrame]
    """The rows along each training, in the order of their steps."""
    anneals: tuple[AnnealRows, ...]
    outcomes: tuple[Outcome, ...]

    def progress(self, training: str, steps: Sequence[float] | Floats) -> Floats:
        """The sums of a training's learning rates up to these steps; before its first row the first rate counts."""
        rows = self.trainings[training]
        places, rates = np.r_[0.0, rows["step"].to_numpy(float)], rows["lr"].to_numpy(float)[[0, *range(len(rows))]]
        sums = np.r_[0.0, np.cumsum(np.diff(places) * (rates[1:] + rates[:-1]) / 2)]
        beyond = np.maximum(np.asarray(steps, dtype=float) - places[-1], 0.0)
        return np.asarray(np.interp(steps, places, sums) + beyond * rates[-1])

    def kinds(self) -> list[str]:
        """The names of the anneals, each of which may have been made from many checkpoints."""
        return list(dict.fromkeys(anneal.anneal for anneal in self.anneals))


@dataclass(frozen=True, kw_only=True)
class AnnealGain:
    """One outcome at the end of one anneal, and what it is compared with."""

    training: str
    checkpoint: str
    anneal: str
    seed: str
    outcome: str
    against: str
    """CHECKPOINT or SAME_STEP."""
    first_step: int
    """The step of what the anneal is compared with: of SAME_STEP the nearest one with this outcome."""
    step: int
    """At which the anneal ended."""
    tokens: float
    """Of the anneal."""
    first: float
    first_stderr: float
    """NaN if the table has no standard errors."""
    second: float
    second_stderr: float
    delta: float
    """second - first."""
    improves: bool
    """Whether the delta goes the better way; it may be noise."""
    verdict: str
    """BETTER, WORSE, or ALIKE if the difference may be noise (5 %, as if the two scores were independent); empty if the
    table has no standard errors."""


@dataclass(frozen=True, kw_only=True)
class AnnealedLaw:
    """How well a power law describes and predicts the losses after an anneal of one kind."""

    outcome: str
    anneal: str
    trainings: int
    checkpoints: int
    alpha: float
    residual_sd: float
    """Of one loss around the law, nats."""
    cross_validation_error: float | None
    """Root mean square error at the last checkpoint of each training, by a fit to those before; None if too few."""


@dataclass(frozen=True, kw_only=True)
class AnnealedPrediction:
    """The predicted loss after an anneal that was not made, nats."""

    outcome: str
    anneal: str
    training: str
    step: int
    """Of the checkpoint that the anneal would begin at."""
    tokens: float
    value: float
    low: float
    """Lower end of the 95 % interval of one run."""
    high: float


@dataclass(frozen=True, kw_only=True)
class TableAnswers:
    """What a table of trainings shows."""

    table: TrainingTable
    primary: tuple[Outcome, ...]
    gains: tuple[AnnealGain, ...]
    ranking: Ranking
    laws: tuple[AnnealedLaw, ...]
    predictions: tuple[AnnealedPrediction, ...]


def training_table(rows: pd.DataFrame, outcomes: Sequence[str]) -> TrainingTable:
    """The table with all columns that tell rows apart, as text."""
    named = {name: rows[name].fillna(value) if name in rows else value for name, value in OPTIONAL.items()}
    whole = rows.assign(**named)
    whole = whole.assign(**{name: whole[name].astype(str) for name in (*OPTIONAL, "checkpoint", "arm")})
    whole = whole.sort_values("step", kind="stable")
    anneals = whole[whole["arm"] == ANNEALED].groupby(OF_ANNEAL, sort=False)
    return TrainingTable(
        trainings=dict(iter(whole[whole["arm"] == AS_SAVED].groupby("training", sort=False))),
        anneals=tuple(
            AnnealRows(**dict(zip(OF_ANNEAL, identity, strict=True)), rows=of_one) for identity, of_one in anneals
        ),
        outcomes=tuple(Outcome(*name.split("/", 1)) for name in outcomes),
    )


def table_answers(table: TrainingTable, primary: Sequence[str]) -> TableAnswers:
    """All answers that a table allows; the outcomes `primary` are looked at closely."""
    gains = tuple(gain for anneal in table.anneals for gain in _gains(table, anneal))
    losses = [outcome for outcome in table.outcomes if outcome.metric == "loss"]
    fits = [(o, anneal, fit) for o in losses for anneal in table.kinds() if (fit := annealed_curves(table, o, anneal))]
    return TableAnswers(
        table=table,
        primary=tuple(outcome for outcome in table.outcomes if outcome.name in primary),
        gains=gains,
        ranking=_ranking(gains, table.outcomes, primary),
        laws=tuple(_law(table, outcome, anneal, fit) for outcome, anneal, fit in fits),
        predictions=tuple(p for o, a, fit in fits if o.name in primary for p in _predictions(table, o, a, fit)),
    )


def annealed_curves(table: TrainingTable, outcome: Outcome, anneal: str) -> AnnealedCurves | None:
    """The law of the losses after anneals of this name; None if there are too few."""
    return fit_annealed_curves(_annealed(table, outcome, anneal), _noise(table, outcome))


def _gains(table: TrainingTable, anneal: AnnealRows) -> Iterator[AnnealGain]:
    along = table.trainings.get(anneal.training, pd.DataFrame({name: [] for name in anneal.rows}))
    begun = (along["checkpoint"] == anneal.checkpoint).to_numpy()
    steps = along["step"].to_numpy(float)
    for outcome in table.outcomes:
        scored = np.flatnonzero(along[outcome.name].notna())
        measured = np.flatnonzero(anneal.rows[outcome.name].notna())
        if not len(scored) or not len(measured):
            continue
        end = anneal.rows.iloc[measured[-1]]
        nearest = scored[np.abs(steps[scored] - end["step"]).argmin()]
        for place in scored[begun[scored]][-1:]:
            yield _gain(anneal, outcome, CHECKPOINT, along.iloc[place], end)
        yield _gain(anneal, outcome, SAME_STEP, along.iloc[nearest], end)


def _gain(anneal: AnnealRows, outcome: Outcome, against: str, first: pd.Series, end: pd.Series) -> AnnealGain:
    delta, error = float(end[outcome.name] - first[outcome.name]), f"{STDERR}{outcome.name}"
    first_stderr, second_stderr = float(first.get(error, np.nan)), float(end.get(error, np.nan))
    stderr, improves = float(np.hypot(first_stderr, second_stderr)), bool(delta * outcome.sign > 0)
    decided = (BETTER if improves else WORSE) if abs(delta) > Z * stderr else ALIKE
    return AnnealGain(
        **anneal.identity,
        outcome=outcome.name,
        against=against,
        first_step=int(first["step"]),
        step=int(end["step"]),
        tokens=float(end["tokens"] - anneal.rows["tokens"].iloc[0]),
        first=float(first[outcome.name]),
        first_stderr=first_stderr,
        second=float(end[outcome.name]),
        second_stderr=second_stderr,
        delta=delta,
        improves=improves,
        verdict=decided if np.isfinite(stderr) else "",
    )


def _ranking(gains: Sequence[AnnealGain], outcomes: Sequence[Outcome], primary: Sequence[str]) -> Ranking:
    """The order of the annealed checkpoints; as they are by their own scores, else by those at the same step."""
    if not gains:
        return Ranking()
    rows = pd.DataFrame([vars(gain) for gain in gains])
    rows = rows.sort_values("against", kind="stable").drop_duplicates([*OF_ANNEAL, "outcome"])  # CHECKPOINT is first
    rows = rows.sort_index().assign(candidate=rows["training"] + " " + rows["checkpoint"])
    scorings = []
    for outcome in outcomes:
        of_outcome = rows[rows["outcome"] == outcome.name]
        as_is = of_outcome.assign(second=of_outcome["first"], second_stderr=of_outcome["first_stderr"], tokens=0.0)
        groups = [(AS_IS, as_is.drop_duplicates("candidate")), *of_outcome.groupby("anneal", sort=False)]
        scorings += [_scoring(outcome, str(anneal), group, rows["candidate"].unique()) for anneal, group in groups]
    return rank(list(rows["candidate"].unique()), scorings, list(primary), list(primary))


def _scoring(outcome: Outcome, anneal: str, rows: pd.DataFrame, candidates: Sequence[str]) -> Scoring:
    """The mean scores of the candidates over seeds, which share their documents."""
    of_candidates = rows.groupby("candidate", sort=False)[["second", "second_stderr"]].mean().reindex(candidates)
    return Scoring(
        anneal=anneal,
        outcome=outcome.name,
        sign=outcome.sign,
        tokens=float(rows["tokens"].mean()) if len(rows) else 0.0,
        values=of_candidates["second"].to_numpy(float),
        errors=unpaired(of_candidates["second_stderr"].to_numpy(float)),
    )


def _annealed(table: TrainingTable, outcome: Outcome, anneal: str) -> list[Annealed]:
    """The losses at the ends of the anneals of this name, by training, over the progress where each began."""
    ends: dict[str, list[tuple[float, float]]] = {}
    for made in table.anneals:
        measured = made.rows[outcome.name].dropna()
        if made.anneal == anneal and len(measured) and made.training in table.trainings:
            begun = float(table.progress(made.training, [made.rows["step"].iloc[0]])[0])
            ends.setdefault(made.training, []).append((begun, float(measured.iloc[-1])))
    arrays = ((training, np.array(sorted(points)).T) for training, points in ends.items())
    return [Annealed(training, progress, loss) for training, (progress, loss) in arrays]


def _noise(table: TrainingTable, outcome: Outcome) -> SeedNoise | None:
    return noise_along([rows[outcome.name].dropna().to_numpy(float) for rows in table.trainings.values()])


def _law(table: TrainingTable, outcome: Outcome, anneal: str, fit: AnnealedCurves) -> AnnealedLaw:
    annealed = _annealed(table, outcome, anneal)
    errors = last_left_out(annealed, _noise(table, outcome))
    return AnnealedLaw(
        outcome=outcome.name,
        anneal=anneal,
        trainings=len(fit.levels),
        checkpoints=sum(len(a.loss) for a in annealed if a.training in fit.levels),
        alpha=fit.alpha,
        residual_sd=fit.residual_sd,
        cross_validation_error=float(np.sqrt(np.mean(errors**2))) if len(errors) else None,
    )


def _predictions(
    table: TrainingTable, outcome: Outcome, anneal: str, fit: AnnealedCurves
) -> Iterator[AnnealedPrediction]:
    """The predicted losses at checkpoints of each training, none of them before the first that was annealed."""
    first = {a.training: a.progress[0] for a in _annealed(table, outcome, anneal)}
    for training in fit.levels:
        rows = table.trainings[training]
        rows = rows[table.progress(training, rows["step"].to_numpy(float)) >= first[training]]
        chosen = np.unique(np.geomspace(1, max(len(rows), 1), MOST_PLACES).astype(int)) - 1
        for _, row in rows.iloc[chosen[chosen < len(rows)]].iterrows():
            value, low, high = fit.predict(training, float(table.progress(training, [row["step"]])[0]))
            yield AnnealedPrediction(
                outcome=outcome.name,
                anneal=anneal,
                training=training,
                step=int(row["step"]),
                tokens=float(row["tokens"]),
                value=value,
                low=low,
                high=high,
            )
