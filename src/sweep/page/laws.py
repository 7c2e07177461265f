"""Figures of learning rates, laws, the response surface, and norms along the anneal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.gaussian_process import surface
from sweep.analysis.predictions import curve, peak_of
from sweep.page.style import COLORS, gain_label, marked, panels, ticks, unit

MOST_TRACES = 8
FINE = 41


def traces(answers: Answers) -> Figure | None:
    """The learning rates of the sweep's schedules."""
    runs = answers.runs
    mine = runs[(runs["status"] == "finished") & runs["arm"].isin(("decay", "constant"))] if "arm" in runs else runs[:0]
    made: dict[bytes, tuple[str, np.ndarray]] = {}
    decides = [name for name in mine if name.startswith("anneal.")] + ["position/lr"]
    for _, row in mine.drop_duplicates([name for name in decides if name in mine]).iterrows():
        rates = curve(row, 0.0).rates
        words = f"{row['anneal.shape']} {row['anneal.steps']:g}, peak {peak_of(row):.3g}"
        made.setdefault(rates.tobytes(), (words, rates))
    if not made:
        return None
    figure, (axes,) = panels(1, width=8.0, height=3.8)
    chosen = list(made.values())
    picked = [chosen[i] for i in np.unique(np.linspace(0, len(chosen) - 1, MOST_TRACES).round().astype(int))]
    for place, (words, rates) in enumerate(picked):
        axes.plot(np.arange(len(rates)), rates, color=COLORS[place % len(COLORS)], label=words)
    shown = f"{len(picked)} of {len(chosen)} schedules" if len(picked) < len(chosen) else "all schedules"
    axes.set(xlabel="updates since the checkpoint", ylabel="learning rate", title=shown)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def met(answers: Answers) -> Figure | None:
    """A law's loss against the measured one, a point a setting."""
    laws = list(dict.fromkeys(point[0] for point in answers.law_points))
    if not laws:
        return None
    figure, grid = panels(len(laws))
    for place, (axes, law) in enumerate(zip(grid, laws, strict=True)):
        points = np.array([point[2:] for point in answers.law_points if point[0] == law])
        error = next(e for e in answers.laws if e.law == law)
        ends, half = [points.min(), points.max()], error.cross_validation_error
        axes.plot(ends, ends, color="#888888", linewidth=1)
        axes.errorbar(points[:, 0], points[:, 1], half, linestyle="", alpha=0.7, **marked(place))
        axes.set(xlabel="measured loss (nats a token)", ylabel="the law's loss (nats a token)")
        axes.set_title(f"{law} law; bars: cross-validation error,\n{half:.2g} nats; spread {error.spread:.2g}")
    return figure


def response(answers: Answers) -> Figure | None:
    """Gain over steps and peak, and the standard deviation of a run there; other axes at their commonest level."""
    by_name = {axis.name: axis for axis in answers.axes if axis.numeric}
    peak = next((by_name[name] for name in ("anneal.peak_lr", "anneal.peak_scale") if name in by_name), None)
    steps = by_name.get("anneal.steps")
    if peak is None or steps is None:
        return None
    runs = answers.runs[(answers.runs["status"] == "finished") & (answers.runs["arm"] == "decay")]
    outcome = answers.primary[-1]
    fitted = surface(runs, answers.axes, outcome.column("delta"))
    if fitted is None:
        return None
    x, y = (
        np.geomspace(a.levels[0], a.levels[-1], FINE)
        if a.levels[0] > 0
        else np.linspace(a.levels[0], a.levels[-1], FINE)
        for a in (steps, peak)
    )
    held = {axis.name: runs[axis.name].mode().iloc[0] for axis in answers.axes}
    grid = pd.DataFrame({name: [value] * FINE**2 for name, value in held.items()})
    grid[steps.name], grid[peak.name] = np.tile(x, FINE), np.repeat(y, FINE)
    mean, sd = (values.reshape(FINE, FINE) for values in fitted.at(grid))
    factor = unit(outcome)[0]
    figure, axes = panels(2, width=5.2, height=4.0)
    drawn = (
        (factor * outcome.sign * mean, gain_label(outcome), "viridis"),
        (factor * sd, "standard deviation of a run there", "cividis"),
    )
    for ax, (field, title, colors) in zip(axes, drawn, strict=True):
        shown = ax.contourf(x, y, field, 12, cmap=colors)
        figure.colorbar(shown, ax=ax)
        ax.plot(runs[steps.name].astype(float), runs[peak.name].astype(float), "w.", markersize=9, markeredgecolor="k")
        ax.set(xscale="log", yscale="log", xlabel="anneal.steps (updates)", ylabel=peak.name, title=title)
        ax.set_xticks(*ticks(steps.levels))
        ax.set_yticks(*ticks(peak.levels))
        ax.minorticks_off()
    others = ", ".join(f"{name}={value}" for name, value in held.items() if name not in (steps.name, peak.name))
    if others:
        figure.suptitle(f"at {others}", fontsize=9)
    return figure


def tail_norms(tails: Mapping[str, pd.DataFrame]) -> Figure | None:
    """Norms of gradient, parameters and change along some anneals."""
    names = {
        "grad_norm": "gradient norm",
        "param_norm": "norm of all parameters",
        "update_norm": "norm of an update's change",
    }
    shown = {
        name: word for name, word in names.items() if any(name in t and t[name].notna().any() for t in tails.values())
    }
    if not shown:
        return None
    figure, grid = panels(len(shown), across=3, width=3.9)
    for axes, (name, word) in zip(grid, shown.items(), strict=True):
        for place, (run, table) in enumerate(tails.items()):
            mine = table.dropna(subset=[name])
            style = marked(place)
            axes.plot(mine["update"], mine[name], label=run, markevery=max(1, len(mine) // 6), alpha=0.8, **style)
        axes.set(xlabel="updates since the checkpoint", ylabel=word)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure
