"""Pictures of the trainings themselves: learning rates, and norms along the anneals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sweep.analysis.answers import Answers
from sweep.analysis.factors import Floats
from sweep.analysis.predictions import peak_lr, run_curve
from sweep.page.charts import Chart, Point, Series

MOST_SCHEDULES = 8
MOST_POINTS = 40
"""Points of a curve; of more, that many at equal distances."""
NORMS = {
    "grad_norm": "gradient norm",
    "param_norm": "norm of all parameters",
    "update_norm": "norm of the change by one update",
}
UPDATES = "updates since the checkpoint"


def learning_rates(answers: Answers) -> list[Chart]:
    """The learning rates of the sweep's schedules."""
    runs = answers.runs[answers.runs["status"] == "finished"]
    runs = runs[runs["arm"].isin(("decay", "constant"))] if "arm" in runs else runs[:0]
    choices = [name for name in runs if name.startswith("anneal.") or name == "position/lr"]
    schedules: dict[bytes, tuple[str, Floats]] = {}
    for _, row in runs.drop_duplicates(choices).iterrows():
        rates = run_curve(row, 0.0).rates
        label = f"{row['anneal.shape']} {row['anneal.steps']:g}, peak {peak_lr(row):.3g}"
        schedules.setdefault(rates.tobytes(), (label, rates))
    if not schedules:
        return []
    every = list(schedules.values())
    shown = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MOST_SCHEDULES).round().astype(int))]
    title = f"{len(shown)} of {len(every)} schedules" if len(shown) < len(every) else "All schedules"
    series = [_curve(label, np.arange(len(rates), dtype=float), rates) for label, rates in shown]
    return [Chart(title=title, at=UPDATES, value="learning rate", series=series)]


def norms(steps: Mapping[str, pd.DataFrame]) -> list[Chart]:
    """Norms along some anneals; `steps` has the updates of each run by its name."""
    charts = []
    for norm, name in NORMS.items():
        known = {run: table.dropna(subset=[norm]) for run, table in steps.items() if norm in table}
        series = [_curve(run, t["update"].to_numpy(), t[norm].to_numpy()) for run, t in known.items() if len(t)]
        if series:
            charts.append(Chart(title=name.capitalize(), at=UPDATES, value=name, series=series))
    return charts


def _curve(name: str, x: Floats, y: Floats) -> Series:
    chosen = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    points = [Point(float(x[i]), float(y[i]), f"{name}\nupdate {x[i]:g}: {y[i]:.3g}") for i in chosen]
    return Series(name, points, "curve")
