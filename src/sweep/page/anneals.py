"""Figures of what the anneals gained: by length, peak, shape, arm and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Noise
from sweep.analysis.factors import Axis
from sweep.analysis.gains import Z
from sweep.analysis.outcomes import Outcome
from sweep.page.style import COLORS, GREY, gain_label, legend, logged, marked, panels, tokens_unit, unit, with_half

STEPS, SHAPE, CHECKPOINT = "anneal.steps", "anneal.shape", "checkpoint"
PEAKS = ("anneal.peak_lr", "anneal.peak_scale")
UNITS = {STEPS: "updates", "anneal.peak_lr": "learning rate", "anneal.peak_scale": "times the rate in force"}


def by_steps(answers: Answers) -> Figure | None:
    """Gain against length, one line a checkpoint and shape."""
    return _lines(answers, STEPS, (CHECKPOINT, SHAPE))


def by_peak(answers: Answers) -> Figure | None:
    """Gain against the peak learning rate, one line a length."""
    peak = next((name for name in PEAKS if _varies(answers, name)), None)
    return None if peak is None else _lines(answers, peak, (STEPS,))


def by_shape(answers: Answers) -> Figure | None:
    """Gain of each shape, side by side for each length."""
    return _lines(answers, STEPS, (SHAPE,)) if _varies(answers, SHAPE) and _varies(answers, STEPS) else None


def heat_map(answers: Answers) -> Figure | None:
    """Gain in each checkpoint and length, the number and its interval in each field."""
    table = _settings(answers)
    if table.empty or not _varies(answers, STEPS) or table[CHECKPOINT].nunique() < 2:
        return None
    figure, grid = panels(len(answers.primary), width=4.8, across=2)
    for axes, outcome in zip(grid, answers.primary, strict=True):
        points = _grouped(answers, table, outcome, [CHECKPOINT, STEPS])
        rows, columns = list(dict.fromkeys(points[CHECKPOINT])), sorted(points[STEPS].unique())
        field = points.pivot(index=CHECKPOINT, columns=STEPS, values="gain").loc[rows, columns]
        half = points.pivot(index=CHECKPOINT, columns=STEPS, values="half").loc[rows, columns]
        most = float(np.nanmax(np.abs(field.to_numpy()))) or 1.0
        axes.imshow(field, cmap="PuOr_r", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        for i, j in np.ndindex(field.shape):
            if np.isfinite(value := field.iat[i, j]):
                axes.text(j, i, with_half(value, half.iat[i, j]), ha="center", va="center")
        axes.set_xticks(range(len(columns)), [f"{c:g}" for c in columns])
        axes.set_yticks(range(len(rows)), rows)
        axes.grid(False)
        axes.set(xlabel=f"{STEPS} (updates)", title=gain_label(outcome))
    return figure


def arms(answers: Answers) -> Figure | None:
    """What each arm gained on its checkpoint, by tokens; intervals over documents."""
    runs = answers.runs
    if "arm" not in runs or runs["arm"].nunique() < 2 or "cost/tokens" not in runs:
        return None
    tokens = dict(zip(runs["name"], runs["cost/tokens"], strict=True))
    most = float(runs["cost/tokens"].max())
    size, word = tokens_unit(most)
    shown = [g for g in answers.gains if g.against == "checkpoint"]
    figure, grid = panels(len(answers.primary))
    for axes, outcome in zip(grid, answers.primary, strict=True):
        factor = unit(outcome)[0]
        mine = [g for g in shown if g.outcome == outcome.name]
        for place, arm in enumerate(("decay", "constant", "merge")):
            points = [g for g in mine if g.arm == arm]
            if points:
                found = pd.DataFrame([(tokens[g.run], g.delta, g.stderr) for g in points], columns=["x", "y", "half"])
                found["x"] = found["x"] / size + (place - 1) * 0.02 * most / size  # so that arms don't hide each other
                found["y"], found["half"] = factor * outcome.sign * found["y"], factor * Z * found["half"]
                axes.plot(found["x"], found["y"], linestyle="", alpha=0.3, **marked(place))
                means = found.groupby("x").mean()
                axes.errorbar(means.index, means["y"], means["half"], label=arm, **{**marked(place), "markersize": 9})
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xlabel=f"tokens annealed ({word})", ylabel=gain_label(outcome))
        axes.text(0.01, 0.01, "bars: 95 % of a run over documents", transform=axes.transAxes, color=GREY, fontsize=8)
        legend(axes, "arm")
    return figure


def frontier(answers: Answers) -> Figure | None:
    """Gain against seconds of annealing; what no cheaper setting beats is joined."""
    table = _settings(answers)
    if table.empty or not (table["seconds"] > 0).any():
        return None
    figure, grid = panels(len(answers.primary))
    for axes, outcome in zip(grid, answers.primary, strict=True):
        factor = unit(outcome)[0]
        mine = table[(table["outcome"] == outcome.name) & (table["seconds"] > 0)]
        for place, (checkpoint, group) in enumerate(mine.groupby(CHECKPOINT, sort=False)):
            seconds = group["seconds"].to_numpy()
            half = None if group["low"].isna().any() else factor * (group["gain"] - group["low"]).astype(float)
            style = marked(place)
            axes.errorbar(seconds, factor * group["gain"], half, linestyle="", alpha=0.6, label=checkpoint, **style)
            best = group.sort_values("seconds")
            best = best[best["gain"] == best["gain"].cummax()].drop_duplicates("gain")
            axes.step(best["seconds"], factor * best["gain"], where="post", color=style["color"])
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="seconds of annealing, on the machine that made them", ylabel=gain_label(outcome))
        legend(axes)
    return figure


def by_axis(runs: pd.DataFrame, varying: Sequence[Axis], outcome: str, noise: Sequence[Noise]) -> Figure:
    """Any table's outcome against each axis: means over its runs, a line a level of the axis of fewest levels."""
    figure, grid = panels(len(varying))
    spread = noise[0].sd if noise else None
    for axes, axis in zip(grid, varying, strict=True):
        others = [a for a in varying if a is not axis and not a.continuous]
        hue = min(others, key=lambda a: len(a.levels), default=None)
        for place, level in enumerate(hue.levels if hue else (None,)):
            mine = runs if hue is None else runs[runs[hue.name] == level]
            means = mine.groupby(axis.name)[outcome].agg(["mean", "size"])
            half = None if spread is None else Z * spread / np.sqrt(means["size"])
            x = means.index.astype(float) if axis.numeric else means.index.astype(str)
            axes.errorbar(x, means["mean"], half, label=None if hue is None else f"{level}", **marked(place))
        if axis.numeric:
            logged(axes, axis.levels)
        axes.set(xlabel=axis.name, ylabel=outcome)
        legend(axes, None if hue is None else hue.name)
    return figure


def _lines(answers: Answers, x: str, hues: Sequence[str]) -> Figure | None:
    table = _settings(answers)
    if table.empty or not _varies(answers, x):
        return None
    figure, grid = panels(len(answers.primary))
    for axes, outcome in zip(grid, answers.primary, strict=True):
        varying = [hue for hue in hues if hue in table and table[hue].nunique() > 1]
        while varying and table[varying].drop_duplicates().shape[0] > len(COLORS):
            varying = varying[:-1]
        points = _grouped(answers, table, outcome, [*varying, x])
        groups = list(points.groupby(varying)) if varying else [((), points)]
        for place, (labels, group) in enumerate(groups):
            aside = (place - (len(groups) - 1) / 2) * 0.012  # so that intervals don't hide each other
            drawn = any(axis.name == x and axis.continuous for axis in answers.axes)
            group = group.sort_values(x)
            values = group[x] * (1 + aside) if pd.api.types.is_numeric_dtype(group[x]) else group[x].astype(str)
            style = {**marked(place), "linestyle": ""} if drawn else marked(place)
            half = None if group["half"].isna().all() else group["half"]
            axes.errorbar(values, group["gain"], half, label=" ".join(map(str, labels)) or None, **style)
        if pd.api.types.is_numeric_dtype(points[x]):
            logged(axes, points[x])
        axes.axhline(0, color=GREY, linewidth=1)
        axes.set(xlabel=f"{x} ({UNITS[x]})" if x in UNITS else x, ylabel=gain_label(outcome))
        legend(axes, ", ".join(varying) or None)
    return figure


def _settings(answers: Answers) -> pd.DataFrame:
    """The settings, settings as columns."""
    rows = [{**vars(setting), **dict(setting.settings)} for setting in answers.settings]
    return pd.DataFrame(rows).infer_objects() if rows else pd.DataFrame(columns=["outcome", CHECKPOINT])


def _varies(answers: Answers, name: str) -> bool:
    return any(axis.name == name and (axis.numeric or name == SHAPE) for axis in answers.axes)


def _grouped(answers: Answers, table: pd.DataFrame, outcome: Outcome, keys: list[str]) -> pd.DataFrame:
    """Mean gain over all other axes and its 95 % half width from the noise between seeds, in the unit drawn."""
    factor = unit(outcome)[0]
    noise = next((n for n in answers.noise if n.outcome == outcome.name), None)
    mine = table[table["outcome"] == outcome.name].assign(weighted=lambda t: t["gain"] * t["seeds"])
    sums = mine.groupby(keys, sort=False)[["weighted", "seeds"]].sum().reset_index()
    sums["gain"] = factor * sums["weighted"] / sums["seeds"]
    known = noise is not None and noise.sd is not None
    spread = stats.t.ppf(0.975, noise.df) * noise.sd if noise is not None and known else np.nan
    return sums.assign(half=factor * spread / np.sqrt(sums["seeds"]))
