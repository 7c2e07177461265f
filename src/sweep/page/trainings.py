"""Figures along the anneals: their learning rates, and the norms of gradient, parameters and updates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.factors import Floats
from sweep.analysis.predictions import peak_lr, run_curve
from sweep.page.style import COLORS, panels, series_style

MOST_SCHEDULES = 8
NORMS = {
    "grad_norm": "gradient norm",
    "param_norm": "norm of all parameters",
    "update_norm": "norm of the change by one update",
}


def learning_rates(answers: Answers) -> Figure | None:
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
        return None
    every = list(schedules.values())
    drawn = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MOST_SCHEDULES).round().astype(int))]
    title = f"{len(drawn)} of {len(every)} schedules" if len(drawn) < len(every) else "all schedules"
    figure, ((axes, _),) = panels([title], width=8.0, height=3.8)
    for place, (label, rates) in enumerate(drawn):
        axes.plot(np.arange(len(rates)), rates, color=COLORS[place % len(COLORS)], label=label)
    axes.set(xlabel="updates since the checkpoint", ylabel="learning rate", title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def norms(steps: Mapping[str, pd.DataFrame]) -> Figure | None:
    """Norms along some anneals; `steps` has the updates of each run by its name."""
    measured = [norm for norm in NORMS if any(norm in t and t[norm].notna().any() for t in steps.values())]
    if not measured:
        return None
    figure, grid = panels(measured, across=3, width=3.9)
    for axes, norm in grid:
        for place, (run, table) in enumerate(steps.items()):
            known = table.dropna(subset=[norm])
            style = {**series_style(place), "alpha": 0.8, "markevery": max(1, len(known) // 6)}
            axes.plot(known["update"], known[norm], label=run, **style)
        axes.set(xlabel="updates since the checkpoint", ylabel=NORMS[norm])
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure
