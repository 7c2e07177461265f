"""What the training before a checkpoint was, as far as a run's params say it: the start of a law's curve."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from sweep.analysis.laws import NO_PAST, Past
from sweep.config.pretraining import Scheduler
from sweep.domain.schedule import warmup_then_constant

PLACES = 512
"""Places of the schedule, at equal distances, between which its learning rates are straight lines."""
SCHEDULER = "model.published.scheduler."


def past_of(row: pd.Series) -> Past:
    """The learning rates of the updates before the last one of the checkpoint of a run.

    If the schedule is not known, as that of a folder of the user's own, the current LR counts as the rate of all.
    """
    step, lr = int(row["position/step"]), float(row["position/lr"])
    if _is_number(row, "model.pretraining.peak_lr"):
        peak, warmup = float(row["model.pretraining.peak_lr"]), int(row["model.pretraining.warmup_steps"])
        return Past(float(warmup_then_constant(step - 1, peak=peak, warmup_steps=warmup).sum()), NO_PAST.falls)
    scheduler = _scheduler(row)
    if scheduler is None or step < 2:
        return Past((step - 1) * lr, NO_PAST.falls)
    scale = 1.0
    if scheduler.units == "tokens":
        scale = float(row["model.batch_size"]) * float(row["model.sequence_length"])
    steps = np.linspace(1, step, min(step, PLACES))
    return past([*steps], [scheduler.lr_at(place * scale) for place in steps])


def past(steps: list[float], lrs: list[float]) -> Past:
    """The past of a training with these learning rates at these steps, the last of which is the checkpoint's."""
    places, rates = np.array(steps), np.array(lrs)
    areas = np.diff(places) * (rates[1:] + rates[:-1]) / 2
    drops = -np.diff(rates)
    after = np.cumsum(areas[::-1])[::-1] - areas / 2  # from the middle of each part to the end
    falls = np.stack([drops, rates[1:], after, places[-1] - (places[1:] + places[:-1] + 1) / 2], axis=1)
    return Past(float(areas.sum() + (rates[0] - rates[-1]) / 2), falls[drops > 0])


def _scheduler(row: pd.Series) -> Scheduler | None:
    """The schedule of a published model; None if it isn't known."""
    if not _is_number(row, f"{SCHEDULER}peak_lr"):
        return None
    values: dict[str, Any] = {field.name: row[f"{SCHEDULER}{field.name}"] for field in fields(Scheduler)}
    given: dict[str, Any] = {name: None if value == "null" else value for name, value in values.items()}
    return Scheduler(**given)


def _is_number(row: pd.Series, name: str) -> bool:
    return isinstance(row.get(name), int | float | np.number) and bool(np.isfinite(row[name]))
