"""Figures of a report: each a PNG made of the answers alone, left out where there is no such data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sweep.analysis.answers import Answers
from sweep.analysis.effects import Effect, Noise
from sweep.analysis.factors import Axis
from sweep.page import anneals, laws, overview
from sweep.page.style import png

DRAWN: dict[str, tuple[str, Callable[[Answers], Figure | None]]] = {
    "arrows": ("Each checkpoint as saved and annealed, by task", overview.arrows),
    "effects": ("Which axis matters", overview.effects),
    "gain_by_steps": ("Gain by length of the anneal", anneals.by_steps),
    "heat_map": ("Gain by checkpoint and length", anneals.heat_map),
    "peaks": ("Gain by peak learning rate, for each length", anneals.by_peak),
    "shapes": ("Decay shapes at equal tokens", anneals.by_shape),
    "arms": ("Anneal, constant rate and average of checkpoints", anneals.arms),
    "frontier": ("Gain by what it costs", anneals.frontier),
    "surface": ("Response surface and its uncertainty", laws.response),
    "laws": ("Annealing laws against measured losses", laws.met),
    "learning_rates": ("Learning rates", laws.traces),
    "signal_to_noise": ("Signal and noise by task", overview.trusted),
}
"""Name -> title, and what draws it; None where the sweep has nothing to draw."""


def plain(
    runs: pd.DataFrame, varying: Sequence[Axis], outcome: str, affected: Sequence[Effect], noise: Sequence[Noise]
) -> dict[str, tuple[str, bytes]]:
    """The same of any table of results: what matters, and the outcome against each axis."""
    made = {
        "effects": ("Which axis matters", overview.effect_bars({outcome: list(affected)}, of=outcome)),
        "levels": ("The outcome by axis", anneals.by_axis(runs, varying, outcome, noise)),
    }
    return {name: (title, png(figure)) for name, (title, figure) in made.items() if figure is not None}


def draw(answers: Answers, tails: Mapping[str, pd.DataFrame]) -> dict[str, tuple[str, bytes]]:
    """Name -> title and PNG of every figure that these answers allow; `tails` are runs' updates by name."""
    figures: dict[str, Any] = {name: (title, make(answers)) for name, (title, make) in DRAWN.items()}
    figures["tail_norms"] = ("Norms along the anneal", laws.tail_norms(tails))
    return {name: (title, png(figure)) for name, (title, figure) in figures.items() if figure is not None}
