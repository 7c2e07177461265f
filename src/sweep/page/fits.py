"""Pictures of what was fitted: annealing laws against measured losses, and the surface of a Gaussian process."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sweep.analysis.answers import Answers
from sweep.analysis.factors import Axis, Floats
from sweep.analysis.gains import Z
from sweep.analysis.gaussian_process import fit_surface
from sweep.analysis.opening import leading
from sweep.analysis.wording import amount, capital, unit, words
from sweep.page.anneals import UNITS, gain_label
from sweep.page.charts import Chart, Point, Series

POINTS, MOST_LINES = 25, 3
"""Points of a predicted line, and lines: the lowest, middle and highest level of the other axis."""


def laws(answers: Answers) -> list[Chart]:
    """The loss by each law against the measured one, a point for each setting."""
    charts = []
    for law in dict.fromkeys(loss.law for loss in answers.law_losses):
        error = next(e for e in answers.laws if e.law == law).cross_validation_error
        points = [
            Point(m.measured, m.fitted, f"{m.run}\nmeasured {m.measured:.4g}, by the law {m.fitted:.4g} nats")
            for m in answers.law_losses
            if m.law == law
        ]
        title = f"{capital(law)} law: {error:.2g} nats from settings left out"
        value = "loss by the law (nats per token)"
        charts.append(
            Chart(
                title=title,
                at="measured loss (nats per token)",
                value=value,
                series=[Series("", points)],
                diagonal=True,
            )
        )
    return charts


def surface(answers: Answers) -> list[Chart]:
    """Predicted gain by peak for some lengths, with 95 % bands; other axes are at their most frequent level."""
    axes = {axis.name: axis for axis in answers.axes if axis.numeric}
    peak = axes.get("anneal.peak_lr") or axes.get("anneal.peak_scale")
    steps, outcome = axes.get("anneal.steps"), leading(answers)
    if peak is None or steps is None or outcome is None:
        return []
    runs = answers.finished_anneals()
    fitted = fit_surface(runs, answers.axes, outcome.column("delta"))
    if fitted is None:
        return []
    held = {axis.name: runs[axis.name].mode().iloc[0] for axis in answers.axes}
    places, factor, series = _points(peak), unit(outcome)[0], []
    levels = [steps.levels[i] for i in np.unique(np.linspace(0, len(steps.levels) - 1, MOST_LINES).round().astype(int))]
    for level in levels:
        grid = pd.DataFrame({name: [value] * POINTS for name, value in held.items()})
        grid[steps.name], grid[peak.name] = level, places
        mean, sd = fitted.predict(grid)
        series.append(
            Series(
                f"{level:g} updates",
                [
                    Point(
                        float(x),
                        factor * outcome.sign * m,
                        f"{level:g} updates, {peak.name}={x:.3g}\npredicted {amount(outcome, outcome.sign * m, Z * s)}",
                        factor * (outcome.sign * m - Z * s),
                        factor * (outcome.sign * m + Z * s),
                    )
                    for x, m, s in zip(places, mean, sd, strict=True)
                ],
                "band",
            )
        )
    others = ", ".join(f"{n}={v}" for n, v in held.items() if n not in (steps.name, peak.name))
    title = f"{capital(words(outcome))}{f', at {others}' if others else ''}"
    at = f"{peak.name} ({UNITS[peak.name]}; bands: 95 % of runs)"
    ticks = [float(level) for level in peak.levels]
    return [Chart(title=title, at=at, value=gain_label(outcome), series=series, log=True, ticks=ticks)]


def _points(axis: Axis) -> Floats:
    """Points from the lowest to the highest level, at equal ratios if all are positive."""
    low, high = axis.levels[0], axis.levels[-1]
    return np.geomspace(low, high, POINTS) if low > 0 else np.linspace(low, high, POINTS)
