"""The figures of a report, each a PNG that is drawn from the answers, if there is something to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Effect, Noise
from sweep.analysis.factors import Axis
from sweep.analysis.findings import BEST, CHECKPOINTS, HELPED, MATTERING, OTHERS, RUNS, TASKS
from sweep.page import anneals, fits, overview, trainings
from sweep.page.style import png

FIGURES: dict[str, tuple[str, Callable[[Answers], Figure | None]]] = {
    "arrows": ("Each checkpoint as saved and annealed, by task", overview.checkpoints),
    "effects": ("Which axis matters", overview.effects),
    "gain_by_steps": ("Gain by length of the anneal", anneals.by_steps),
    "heat_map": ("Gain by checkpoint and length", anneals.heat_map),
    "peaks": ("Gain by peak learning rate, for each length", anneals.by_peak),
    "shapes": ("Gain by decay shape, for each length", anneals.by_shape),
    "arms": ("Anneals, matched controls and averages of checkpoints", anneals.arms),
    "frontier": ("Gain by cost", anneals.cost),
    "surface": ("Predicted gain and its uncertainty", fits.surface),
    "laws": ("Annealing laws against measured losses", fits.laws),
    "learning_rates": ("Learning rates", trainings.learning_rates),
    "signal_to_noise": ("Signal-to-noise by task", overview.signal_to_noise),
}
"""Name -> title, and the function that draws it; None if the sweep has nothing to draw."""
FIGURES_OF = {
    HELPED: ("gain_by_steps", "heat_map", "arms"),
    MATTERING: ("effects", "peaks", "shapes"),
    BEST: ("frontier",),
    CHECKPOINTS: ("arrows",),
    TASKS: ("signal_to_noise",),
    OTHERS: ("surface", "laws"),
    RUNS: ("learning_rates", "tail_norms"),
}
"""Question -> its figures."""
FIRST = ("gain_by_steps", "peaks", "shapes", "frontier", "arrows", "effects")
"""The first of these that can be drawn is the picture of the opening."""
Drawn = dict[str, tuple[str, bytes]]
"""Name -> title and PNG."""


def table_figures(
    runs: pd.DataFrame, axes: Sequence[Axis], outcome: str, effects: Sequence[Effect], noise: Noise | None
) -> Drawn:
    """The figures of any table of results: what matters, and the outcome against each axis."""
    bars, levels = overview.effect_bars({outcome: effects}, of=outcome), anneals.by_axis(runs, axes, outcome, noise)
    return _drawn({"effects": ("Which axis matters", bars), "levels": ("The outcome by axis", levels)})


def report_figures(answers: Answers, steps: Mapping[str, pd.DataFrame]) -> Drawn:
    """Every figure that these answers allow; `steps` has the updates of some runs by their names."""
    figures = {name: (title, draw(answers)) for name, (title, draw) in FIGURES.items()}
    return _drawn(figures | {"tail_norms": ("Norms along the anneal", trainings.norms(steps))})


def _drawn(figures: Mapping[str, tuple[str, Figure | None]]) -> Drawn:
    return {name: (title, png(figure)) for name, (title, figure) in figures.items() if figure is not None}
