"""Pictures of what the anneals gained: by length, peak, shape, arm, setting and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from sweep.analysis.answers import Answers, settings_text
from sweep.analysis.effects import Noise
from sweep.analysis.factors import Axis
from sweep.analysis.gains import Z
from sweep.analysis.opening import leading_first
from sweep.analysis.outcomes import Outcome
from sweep.analysis.settings import SettingGain
from sweep.analysis.wording import amount, capital, count, duration, unit, words
from sweep.page.charts import Chart, Point, Series
from sweep.page.svg import MOST_LABEL

STEPS, SHAPE, CHECKPOINT = "anneal.steps", "anneal.shape", "checkpoint"
PEAKS = ("anneal.peak_lr", "anneal.peak_scale")
UNITS = {STEPS: "updates", "anneal.peak_lr": "learning rate", "anneal.peak_scale": "times the current LR"}
MOST_SERIES = 8
MOST_SETTINGS = 25
"""Settings of one picture; of more, the best."""


def by_steps(answers: Answers) -> list[Chart]:
    """Gain against length, a line for each checkpoint, peak and shape, as far as there are colours."""
    peaks = [name for name in PEAKS if _varies(answers, name)]
    return _lines(answers, STEPS, (CHECKPOINT, *peaks, SHAPE))


def by_peak(answers: Answers) -> list[Chart]:
    """Gain against the peak learning rate, a line for each length."""
    peak = next((name for name in PEAKS if _varies(answers, name)), None)
    return [] if peak is None else _lines(answers, peak, (STEPS,))


def by_shape(answers: Answers) -> list[Chart]:
    """Gain against length, a line for each shape."""
    return _lines(answers, STEPS, (SHAPE,)) if _varies(answers, SHAPE) else []


def settings(answers: Answers) -> list[Chart]:
    """The gain of each setting with its interval, the best first: how flat the optimum is."""
    charts = []
    for outcome in leading_first(answers):
        own = sorted((s for s in answers.settings if s.outcome == outcome.name), key=lambda s: -s.gain)
        shown = own[:MOST_SETTINGS]
        labels, heading = _setting_labels(shown)
        groups: dict[str, list[Point]] = {"the best": [], "not told from the best": [], "less": []}
        for setting, label in zip(shown, labels, strict=True):
            kind = "the best" if setting.best else "less" if setting.apart else "not told from the best"
            groups[kind].append(_setting_point(label, outcome, setting))
        some = f", the best {len(shown)} of {len(own)}" if len(shown) < len(own) else ""
        charts.append(
            Chart(
                title=f"{capital(words(outcome))}{some}",
                at=heading,
                value=gain_label(outcome),
                series=[Series(name, points, quiet=name == "less") for name, points in groups.items() if points],
                horizontal=True,
                order=labels,
            )
        )
    return charts


def _setting_labels(shown: Sequence[SettingGain]) -> tuple[list[str], str]:
    """A label for each setting, and what the labels are; axes are named there alone if there is no room."""
    several = len({s.checkpoint for s in shown}) > 1
    full = [settings_text(s.settings).replace("anneal.", "") for s in shown]
    full = [
        f"{s.checkpoint} {text}".strip() if several or not text else text for s, text in zip(shown, full, strict=True)
    ]
    if all(len(label) <= MOST_LABEL for label in full):
        return full, "setting"
    names = ["checkpoint"] * several + [name.removeprefix("anneal.") for name, _ in shown[0].settings]
    rows = [[s.checkpoint] * several + [settings_text([pair]).partition("=")[2] for pair in s.settings] for s in shown]
    return [", ".join(row) for row in rows], ", ".join(names)


def arms(answers: Answers) -> list[Chart]:
    """The gain of each arm over its checkpoint, by tokens, with intervals over documents."""
    runs = answers.runs
    if "arm" not in runs or runs["arm"].nunique() < 2 or "cost/tokens" not in runs:
        return []
    tokens = dict(zip(runs["run"], runs["cost/tokens"], strict=True))
    charts = []
    for outcome in leading_first(answers):
        factor, series = unit(outcome)[0], []
        for arm, name in (("decay", "anneal"), ("constant", "matched control"), ("merge", "merge")):
            points = [
                Point(
                    tokens[g.key],
                    factor * outcome.sign * g.delta,
                    f"{g.run}\n{amount(outcome, outcome.sign * g.delta, Z * g.stderr)}",
                    factor * (outcome.sign * g.delta - Z * g.stderr),
                    factor * (outcome.sign * g.delta + Z * g.stderr),
                )
                for g in answers.gains
                if (g.against, g.outcome, g.arm) == ("checkpoint", outcome.name, arm)
            ]
            series += [Series(name, points, quiet=arm != "decay")] if points else []
        charts.append(_chart(outcome, "tokens annealed (bars: 95 % over documents)", series, log=True))
    return [chart for chart in charts if len(chart.series) > 1]


def cost(answers: Answers) -> list[Chart]:
    """Gain against seconds of annealing: stairs join the settings that no cheaper setting of their checkpoint beats.

    The other settings are drawn if there is one checkpoint.
    """
    charts = []
    for outcome in leading_first(answers):
        timed = [s for s in answers.settings if s.outcome == outcome.name and s.seconds > 0]
        timed.sort(key=lambda s: s.seconds)
        names = [name for name in _checkpoint_order(answers) if any(s.checkpoint == name for s in timed)]
        series = []
        for checkpoint in names[:MOST_SERIES]:
            own = [s for s in timed if s.checkpoint == checkpoint]
            gains = np.maximum.accumulate([s.gain for s in own])
            frontier = [s for s, most in zip(own, gains, strict=True) if s.gain == most]
            name = checkpoint if len(names) > 1 else "none cheaper is better"
            series.append(Series(name, [_setting_point(s.seconds, outcome, s) for s in frontier], "stairs"))
            others = [_setting_point(s.seconds, outcome, s) for s in own if s not in frontier]
            if others and len(names) == 1:
                series.append(Series("other settings", others, quiet=True))
        if series:
            charts.append(_chart(outcome, "seconds of annealing, on the machine of the run", series, log=True))
    return charts


def _checkpoint_order(answers: Answers) -> list[str]:
    """The names of the checkpoints by the tokens that they have seen, then those without an outcome that is shown."""
    return list(dict.fromkeys([s.checkpoint for s in answers.checkpoints] + [s.checkpoint for s in answers.settings]))


def by_axis(runs: pd.DataFrame, varying: Sequence[Axis], outcome: str, noise: Noise | None) -> list[Chart]:
    """The means of any table's outcome against each axis, a line for each level of the axis with the fewest levels."""
    charts = []
    for axis in varying:
        others = [a for a in varying if a is not axis and not a.continuous]
        hue = min(others, key=lambda a: len(a.levels), default=None)
        groups = [("", runs)] if hue is None else [
            (f"{hue.name}={level}", runs[runs[hue.name] == level]) for level in hue.levels[:MOST_SERIES]
        ]  # fmt: skip
        series = []
        for label, group in groups:
            means = group.groupby(axis.name)[outcome].agg(["mean", "size"])
            points = []
            for level, mean, size in means.itertuples():
                half = None if noise is None or noise.sd is None else float(Z * noise.sd / np.sqrt(size))
                at = float(level) if axis.numeric else str(level)
                text = f"{axis.name}={level} {label}\n{mean:.4g} ({size} runs)"
                points.append(
                    Point(at, mean, text, None if half is None else mean - half, None if half is None else mean + half)
                )
            series.append(Series(label, points, "line"))
        ticks = [float(level) for level in axis.levels] if axis.numeric else ()
        charts.append(Chart(title=axis.name, at=axis.name, value=outcome, series=series, log=axis.log, ticks=ticks))
    return charts


def gain_label(outcome: Outcome) -> str:
    """The label of an axis that shows gains."""
    name = unit(outcome)[1]
    direction = "fall" if outcome.sign < 0 else "rise"
    return f"gain: {direction} in {name}" if name else f"gain ({direction})"


def _chart(outcome: Outcome, at: str, series: Sequence[Series], *, log: bool, ticks: Sequence[float] = ()) -> Chart:
    return Chart(title=capital(words(outcome)), at=at, value=gain_label(outcome), series=series, log=log, ticks=ticks)


def _setting_point(at: float | str, outcome: Outcome, setting: SettingGain) -> Point:
    """A setting's gain with its interval over seeds."""
    factor = unit(outcome)[0]
    half = None if setting.low is None else setting.gain - setting.low
    took = f", {duration(setting.seconds)}" if setting.seconds > 0 else ""
    text = (
        f"{setting.checkpoint} {settings_text(setting.settings)}\n{amount(outcome, setting.gain, half)}"
        f"\n{setting.seeds} runs, {count(setting.tokens)} tokens{took}"
    )
    low, high = (None if end is None else factor * end for end in (setting.low, setting.high))
    return Point(at, factor * setting.gain, text, low, high)


def _lines(answers: Answers, x: str, hues: Sequence[str]) -> list[Chart]:
    """Gain against an axis, a line for each level of the hues, without hues that would need too many colours."""
    table = _settings(answers)
    if table.empty or not _varies(answers, x):
        return []
    varying = [hue for hue in hues if hue in table and hue != x and table[hue].nunique() > 1]
    while varying and len(table[varying].drop_duplicates()) > MOST_SERIES:
        varying.pop()
    joined = not any(axis.name == x and axis.continuous for axis in answers.axes)
    charts = []
    for outcome in leading_first(answers):
        means = _mean_gains(answers, table, outcome, [*varying, x]).sort_values(
            [*(h for h in varying if h != CHECKPOINT), x]
        )
        groups = list(means.groupby(varying, sort=False)) if varying else [((), means)]
        if CHECKPOINT in varying:
            groups.sort(key=lambda group: _checkpoint_order(answers).index(group[0][varying.index(CHECKPOINT)]))
        series = []
        for labels, group in groups:
            name = ", ".join(_level(hue, label) for hue, label in zip(varying, labels, strict=True))
            points = [_mean_point(outcome, x, name, row) for row in group.to_dict("records")]
            series.append(Series(name, points, "line" if joined else "points"))
        ticks = sorted({float(v) for v in means[x]}) if pd.api.types.is_numeric_dtype(means[x]) else ()
        charts.append(_chart(outcome, f"{x} ({UNITS[x]})" if x in UNITS else x, series, log=True, ticks=ticks))
    return charts


def _level(hue: str, label: object) -> str:
    short = f"{label:g}" if isinstance(label, float) else str(label)
    return short if hue in (CHECKPOINT, SHAPE) else f"{hue.removeprefix('anneal.')} {short}"


def _mean_point(outcome: Outcome, x: str, name: str, row: dict[str, float]) -> Point:
    half = row["half"] if np.isfinite(row["half"]) else None
    factor = unit(outcome)[0]
    said = amount(outcome, row["gain"] / factor, None if half is None else half / factor)
    text = f"{x}={row[x]:g} {name}\n{said}\nmean of {row['seeds']:g} runs"
    ends = (None, None) if half is None else (row["gain"] - half, row["gain"] + half)
    return Point(float(row[x]), row["gain"], text, *ends)


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
