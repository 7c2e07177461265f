"""Figures of what the anneals gained: by length, peak, shape, arm and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Noise
from sweep.analysis.factors import Axis
from sweep.analysis.gains import Z
from sweep.analysis.outcomes import Outcome
from sweep.page.style import (
    COLORS,
    GREY,
    gain_label,
    legend,
    numeric_x,
    panels,
    series_style,
    tokens_unit,
    unit,
    with_half_width,
)

STEPS, SHAPE, CHECKPOINT = "anneal.steps", "anneal.shape", "checkpoint"
PEAKS = ("anneal.peak_lr", "anneal.peak_scale")
UNITS = {STEPS: "updates", "anneal.peak_lr": "learning rate", "anneal.peak_scale": "times the current LR"}


def by_steps(answers: Answers) -> Figure | None:
    """Gain against length, a line for each checkpoint and shape."""
    return _lines(answers, STEPS, (CHECKPOINT, SHAPE))


def by_peak(answers: Answers) -> Figure | None:
    """Gain against the peak learning rate, a line for each length."""
    peak = next((name for name in PEAKS if _varies(answers, name)), None)
    return None if peak is None else _lines(answers, peak, (STEPS,))


def by_shape(answers: Answers) -> Figure | None:
    """Gain against length, a line for each shape."""
    return _lines(answers, STEPS, (SHAPE,)) if _varies(answers, SHAPE) else None


def heat_map(answers: Answers) -> Figure | None:
    """Gain by checkpoint and length, with its interval as text."""
    table = _settings(answers)
    if table.empty or not _varies(answers, STEPS) or table[CHECKPOINT].nunique() < 2:
        return None
    figure, grid = panels(answers.gained(), width=4.8)
    for axes, outcome in grid:
        means = _mean_gains(answers, table, outcome, [CHECKPOINT, STEPS])
        rows, columns = list(dict.fromkeys(means[CHECKPOINT])), sorted(means[STEPS].unique())
        gains, halves = (
            means.pivot(index=CHECKPOINT, columns=STEPS, values=values).loc[rows, columns]
            for values in ("gain", "half")
        )
        most = float(np.nanmax(np.abs(gains.to_numpy()))) or 1.0
        axes.imshow(gains, cmap="PuOr_r", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        for i, j in np.ndindex(gains.shape):
            if np.isfinite(gain := gains.iat[i, j]):
                axes.text(j, i, with_half_width(gain, halves.iat[i, j]), ha="center", va="center")
        axes.set_xticks(range(len(columns)), [f"{c:g}" for c in columns])
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(False)
        axes.set(xlabel=f"{STEPS} (updates)", title=gain_label(outcome))
    return figure


def arms(answers: Answers) -> Figure | None:
    """The gain of each arm over its checkpoint, by tokens, with intervals over documents."""
    runs = answers.runs
    if "arm" not in runs or runs["arm"].nunique() < 2 or "cost/tokens" not in runs:
        return None
    size, word = tokens_unit(runs["cost/tokens"].max())
    tokens = dict(zip(runs["run"], runs["cost/tokens"] / size, strict=True))
    shift = 0.02 * runs["cost/tokens"].max() / size  # so that arms don't hide each other
    figure, grid = panels(answers.primary)
    for axes, outcome in grid:
        factor = unit(outcome)[0]
        for place, arm in enumerate(("decay", "constant", "merge")):
            points = pd.DataFrame(
                [
                    (tokens[g.key] + (place - 1) * shift, factor * outcome.sign * g.delta, factor * Z * g.stderr)
                    for g in answers.gains
                    if (g.against, g.outcome, g.arm) == ("checkpoint", outcome.name, arm)
                ],
                columns=["tokens", "gain", "half"],
            )
            if len(points):
                style, means = series_style(place), points.groupby("tokens").mean()
                axes.plot(points["tokens"], points["gain"], linestyle="", alpha=0.3, **style)
                axes.errorbar(means.index, means["gain"], means["half"], label=arm, markersize=9, **style)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xlabel=f"tokens annealed ({word})", ylabel=gain_label(outcome))
        note = "bars: 95 % interval of one run over documents"
        axes.text(0.01, 0.01, note, transform=axes.transAxes, color=GREY, fontsize=8)
        legend(axes, "arm")
    return figure


def cost(answers: Answers) -> Figure | None:
    """Gain against seconds of annealing; a line joins the settings that no cheaper setting beats."""
    table = _settings(answers)
    if table.empty or not (table["seconds"] > 0).any():
        return None
    figure, grid = panels(answers.gained())
    for axes, outcome in grid:
        factor = unit(outcome)[0]
        timed = table[(table["outcome"] == outcome.name) & (table["seconds"] > 0)]
        for place, (checkpoint, group) in enumerate(timed.groupby(CHECKPOINT, sort=False)):
            gain, style = factor * group["gain"], series_style(place)
            half = None if group["low"].isna().any() else factor * (group["gain"] - group["low"]).astype(float)
            axes.errorbar(group["seconds"], gain, half, linestyle="", alpha=0.6, label=checkpoint, **style)
            ordered = group.sort_values("seconds")
            best = ordered[ordered["gain"] == ordered["gain"].cummax()].drop_duplicates("gain")
            axes.step(best["seconds"], factor * best["gain"], where="post", color=style["color"])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="seconds of annealing, on the machine of the run", ylabel=gain_label(outcome))
        legend(axes)
    return figure


def by_axis(runs: pd.DataFrame, varying: Sequence[Axis], outcome: str, noise: Noise | None) -> Figure:
    """The means of any table's outcome against each axis, a line for each level of the axis with the fewest levels."""
    sd = None if noise is None else noise.sd
    figure, grid = panels(varying)
    for axes, axis in grid:
        others = [a for a in varying if a is not axis and not a.continuous]
        hue = min(others, key=lambda a: len(a.levels), default=None)
        groups = (
            [(None, runs)] if hue is None else [(str(level), runs[runs[hue.name] == level]) for level in hue.levels]
        )
        for place, (label, group) in enumerate(groups):
            means = group.groupby(axis.name)[outcome].agg(["mean", "size"])
            half = None if sd is None else Z * sd / np.sqrt(means["size"])
            x = means.index.astype(float if axis.numeric else str)
            axes.errorbar(x, means["mean"], half, label=label, **series_style(place))
        if axis.numeric:
            numeric_x(axes, axis.levels)
        axes.set(xlabel=axis.name, ylabel=outcome)
        legend(axes, None if hue is None else hue.name)
    return figure


def _lines(answers: Answers, x: str, hues: Sequence[str]) -> Figure | None:
    """Gain against an axis, a line for each level of the hues, without hues that would need too many colours."""
    table = _settings(answers)
    if table.empty or not _varies(answers, x):
        return None
    varying = [hue for hue in hues if hue in table and table[hue].nunique() > 1]
    while varying and len(table[varying].drop_duplicates()) > len(COLORS):
        varying.pop()
    joined = not any(axis.name == x and axis.continuous for axis in answers.axes)
    figure, grid = panels(answers.gained())
    for axes, outcome in grid:
        means = _mean_gains(answers, table, outcome, [*varying, x]).sort_values(x)
        _draw_lines(axes, means, x, varying, joined=joined)
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xlabel=f"{x} ({UNITS[x]})" if x in UNITS else x, ylabel=gain_label(outcome))
        legend(axes, ", ".join(varying) or None)
    return figure


def _draw_lines(axes: Axes, means: pd.DataFrame, x: str, hues: list[str], *, joined: bool) -> None:
    groups = list(means.groupby(hues)) if hues else [((), means)]
    numeric = pd.api.types.is_numeric_dtype(means[x])
    for place, (labels, group) in enumerate(groups):
        aside = (place - (len(groups) - 1) / 2) * 0.012  # so that intervals don't hide each other
        values = group[x] * (1 + aside) if numeric else group[x].astype(str)
        half = None if group["half"].isna().all() else group["half"]
        style = series_style(place) | ({} if joined else {"linestyle": ""})
        axes.errorbar(values, group["gain"], half, label=" ".join(map(str, labels)) or None, **style)
    if numeric:
        numeric_x(axes, means[x])


def _settings(answers: Answers) -> pd.DataFrame:
    """The gains of settings, with a column for each axis."""
    rows = [{**vars(setting), **dict(setting.settings)} for setting in answers.settings]
    return pd.DataFrame(rows).infer_objects()


def _varies(answers: Answers, name: str) -> bool:
    return any(axis.name == name and (axis.numeric or name == SHAPE) for axis in answers.axes)


def _mean_gains(answers: Answers, table: pd.DataFrame, outcome: Outcome, keys: list[str]) -> pd.DataFrame:
    """Mean gain over all other axes, and the half width of its 95 % interval over seeds, in the unit that is drawn."""
    noise = next((n for n in answers.noise if n.outcome == outcome.name and n.sd is not None), None)
    spread = np.nan if noise is None else stats.t.ppf(0.975, noise.df) * noise.sd
    weighted = table[table["outcome"] == outcome.name].assign(gain=lambda t: t["gain"] * t["seeds"])
    sums = weighted.groupby(keys, sort=False)[["gain", "seeds"]].sum().reset_index()
    factor = unit(outcome)[0]
    return sums.assign(gain=factor * sums["gain"] / sums["seeds"], half=factor * spread / np.sqrt(sums["seeds"]))
