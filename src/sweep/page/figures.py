"""The pictures of a report, each made from the answers if they have enough to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Effect, Noise
from sweep.analysis.factors import Axis
from sweep.analysis.findings import BEST, CHECKPOINTS, HELPED, MATTERING, OTHERS, RUNS, TASKS
from sweep.page import anneals, fits, overview, trainings
from sweep.page.charts import Chart, Picture

FIGURES: dict[str, tuple[str, Callable[[Answers], list[Chart]]]] = {
    "settings": ("The gain of each setting", anneals.settings),
    "gain_by_steps": ("Gain by length of the anneal", anneals.by_steps),
    "arms": ("Anneals, matched controls and averages of checkpoints", anneals.arms),
    "effects": ("Which axis matters", overview.effects),
    "peaks": ("Gain by peak learning rate, for each length", anneals.by_peak),
    "shapes": ("Gain by decay shape, for each length", anneals.by_shape),
    "frontier": ("Gain by cost", anneals.cost),
    "checkpoints": ("Checkpoints as saved and as annealed", overview.checkpoints),
    "signal_to_noise": ("Signal-to-noise by task", overview.signal_to_noise),
    "surface": ("Predicted gain between the settings that were run", fits.surface),
    "laws": ("Annealing laws against measured losses", fits.laws),
    "learning_rates": ("Learning rates", trainings.learning_rates),
}
"""Name -> title, and the function that gives its charts."""
FIGURES_OF = {
    HELPED: ("gain_by_steps", "arms"),
    MATTERING: ("effects", "peaks", "shapes"),
    BEST: ("settings", "frontier"),
    CHECKPOINTS: ("checkpoints",),
    TASKS: ("signal_to_noise",),
    OTHERS: ("surface", "laws"),
    RUNS: ("learning_rates", "tail_norms"),
}
"""Question -> its pictures."""
FIRST = ("gain_by_steps", "settings", "peaks", "frontier", "checkpoints", "effects")
"""The first of these that there is becomes the picture of the opening."""
LEAST_POINTS, LEAST_BARS = 5, 2
"""Fewer points, or rows of a chart of bars, are a table and no picture."""
Pictures = dict[str, Picture]


def table_figures(
    runs: pd.DataFrame, axes: Sequence[Axis], outcome: str, effects: Sequence[Effect], noise: Noise | None
) -> Pictures:
    """The pictures of any table of results: what matters, and the outcome against each axis."""
    bars, levels = overview.effect_bars({outcome: effects}, of=outcome), anneals.by_axis(runs, axes, outcome, noise)
    return pictures({"effects": ("Which axis matters", bars), "levels": ("The outcome by axis", levels)})


def report_figures(answers: Answers, steps: Mapping[str, pd.DataFrame]) -> Pictures:
    """Every picture that these answers allow; `steps` has the updates of some runs by their names."""
    figures = {name: (title, charts(answers)) for name, (title, charts) in FIGURES.items()}
    return pictures(figures | {"tail_norms": ("Norms along the anneal", trainings.norms(steps))})


def pictures(figures: Mapping[str, tuple[str, list[Chart]]]) -> Pictures:
    """Name -> title and charts, as pictures; without charts that show too little."""
    enough = {
        name: (title, [chart for chart in charts if _has_enough(chart)]) for name, (title, charts) in figures.items()
    }
    return {name: Picture(title, charts) for name, (title, charts) in enough.items() if charts}


def _has_enough(chart: Chart) -> bool:
    """Whether there is more to see than a line of text says."""
    forms = {series.form for series in chart.series}
    number = sum(len(series.points) for series in chart.series)
    return bool(forms & {"curve", "band"}) or number >= (LEAST_BARS if "bars" in forms else LEAST_POINTS)
