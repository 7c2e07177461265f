"""Figures of what was fitted: annealing laws against measured losses, and the surface of a Gaussian process."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.factors import Axis, Floats
from sweep.analysis.gaussian_process import fit_surface
from sweep.page.style import GREY, gain_label, panels, series_style, ticks, unit

POINTS = 41
"""Points of the surface along each axis."""


def laws(answers: Answers) -> Figure | None:
    """The loss by each law against the measured one, a point for each setting."""
    names = list(dict.fromkeys(loss.law for loss in answers.law_losses))
    if not names:
        return None
    figure, grid = panels(names)
    for place, (axes, law) in enumerate(grid):
        points = np.array([(loss.measured, loss.fitted) for loss in answers.law_losses if loss.law == law])
        error = next(e for e in answers.laws if e.law == law)
        ends, half = [points.min(), points.max()], error.cross_validation_error
        axes.plot(ends, ends, color=GREY, linewidth=1)
        axes.errorbar(points[:, 0], points[:, 1], half, linestyle="", alpha=0.7, **series_style(place))
        axes.set(xlabel="measured loss (nats per token)", ylabel="loss by the law (nats per token)")
        axes.set_title(f"{law} law; bars: cross-validation error,\n{half:.2g} nats; spread {error.spread:.2g}")
    return figure


def surface(answers: Answers) -> Figure | None:
    """Gain over steps and peak, and the standard deviation of a run; other axes are at their most frequent level."""
    axes = {axis.name: axis for axis in answers.axes if axis.numeric}
    peak = axes.get("anneal.peak_lr") or axes.get("anneal.peak_scale")
    steps = axes.get("anneal.steps")
    if peak is None or steps is None or not answers.gained():
        return None
    runs, outcome = answers.finished_anneals(), answers.gained()[-1]
    fitted = fit_surface(runs, answers.axes, outcome.column("delta"))
    if fitted is None:
        return None
    held = {axis.name: runs[axis.name].mode().iloc[0] for axis in answers.axes}
    x, y = _points(steps), _points(peak)
    grid = pd.DataFrame({name: [value] * POINTS**2 for name, value in held.items()})
    grid[steps.name], grid[peak.name] = np.tile(x, POINTS), np.repeat(y, POINTS)
    mean, sd = (unit(outcome)[0] * values.reshape(POINTS, POINTS) for values in fitted.predict(grid))
    drawn = (
        (outcome.sign * mean, gain_label(outcome), "viridis"),
        (sd, "standard deviation of a run", "cividis"),
    )
    figure, both = panels(drawn, width=5.2, height=4.0)
    for ax, (field, title, colors) in both:
        figure.colorbar(ax.contourf(x, y, field, 12, cmap=colors), ax=ax)
        ax.plot(runs[steps.name].astype(float), runs[peak.name].astype(float), "w.", markersize=9, markeredgecolor="k")
        _log_axes(ax, steps, peak)
        ax.set_title(title)
    others = ", ".join(f"{name}={value}" for name, value in held.items() if name not in (steps.name, peak.name))
    if others:
        figure.suptitle(f"at {others}", fontsize=9)
    return figure


def _points(axis: Axis) -> Floats:
    """Points from the lowest to the highest level, at equal ratios if all are positive."""
    low, high = axis.levels[0], axis.levels[-1]
    return np.geomspace(low, high, POINTS) if low > 0 else np.linspace(low, high, POINTS)


def _log_axes(axes: Axes, steps: Axis, peak: Axis) -> None:
    axes.set(xscale="log", yscale="log", xlabel=f"{steps.name} (updates)", ylabel=peak.name)
    axes.set_xticks(*ticks(steps.levels))
    axes.set_yticks(*ticks(peak.levels))
    axes.minorticks_off()
