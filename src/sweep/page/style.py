"""The one visual language: Okabe and Ito's colours, and markers that tell series apart without them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.analysis.outcomes import Outcome

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#888888"
MOST_TICKS, FEW_TICKS, NEAR = 8, 5, 0.08
"""Numbers with a tick each, ticks of more, and the least part of an axis between two labels."""
LEGEND_WIDTH = 58
"""Letters beside each other over one panel."""
RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "errorbar.capsize": 3,
}
matplotlib.use("agg")
matplotlib.rcParams.update(RC)


def panels(count: int, *, width: float = 4.6, height: float = 3.5, across: int = 2) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, at most `across` beside each other; the rest of the grid is left empty."""
    columns = min(count, across)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns + 0.6, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[count:]:
        empty.set_axis_off()
    return figure, list(grid[:count])


def png(figure: Figure) -> bytes:
    """The figure, 140 dots an inch."""
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=140, metadata={"Software": None})
    return made.getvalue()


def unit(outcome: Outcome) -> tuple[float, str]:
    """Factor and unit in which an outcome is drawn."""
    if outcome.metric.startswith(("acc", "mean", "best")):
        return 100.0, "points of %"
    if outcome.metric == "loss":
        return 1.0, "nats a token"
    if outcome.metric.startswith("bits_per_byte"):
        return 1.0, "bits a byte"
    return 1.0, outcome.metric


def tokens_unit(most: float) -> tuple[float, str]:
    """Tokens of one unit, and its word."""
    return next(
        ((size, word) for size, word in ((1e9, "billions"), (1e6, "millions")) if most >= size), (1e3, "thousands")
    )


def gain_label(outcome: Outcome) -> str:
    """Of an axis that shows gains: up is better."""
    word = unit(outcome)[1]
    return f"gain in {outcome.name}\n({word}{', loss fallen' if outcome.metric == 'loss' else ''}; up is better)"


def marked(place: int) -> dict[str, Any]:
    """Colour and marker of the n-th series."""
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}


def logged(axes: Axes, values: object) -> None:
    """A logarithmic axis of these values with a tick at each."""
    axes.margins(x=0.08)
    numbers = sorted({float(v) for v in np.asarray(values, dtype=float)})
    if numbers and numbers[0] > 0 and numbers[-1] / numbers[0] >= 2:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(*ticks(numbers))
    elif len(numbers) <= MOST_TICKS:
        axes.set_xticks(*ticks(numbers))


def with_half(value: float, half: float) -> str:
    """The value to the digits that its 95 % half width leaves it, and that below; NaN: none is known."""
    if not half > 0:
        return f"{value:+.3g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{round(value, digits) + 0.0:+.{digits}f}\n± {half:.{digits}f}"


def ticks(numbers: Sequence[float]) -> tuple[list[float], list[str]]:
    """Places and labels: each of few numbers, and of many some between the first and the last, by their ratios.

    What is too near to the one before for a label of its own has none.
    """
    if len(numbers) > MOST_TICKS:
        numbers = [float(f"{number:.1g}") for number in np.geomspace(numbers[0], numbers[-1], FEW_TICKS)]
    span = math.log(numbers[-1] / numbers[0]) if numbers[0] > 0 else 0.0
    labels, last = [], 0.0
    for number in numbers:
        near = span > 0 and last > 0 and math.log(number / last) / span < NEAR
        labels.append("" if near else f"{number:g}")
        last = last if near else number
    return [*numbers], labels


def legend(axes: Axes, title: str | None = None) -> None:
    """Above the panel, no wider than it, where there is more than one series."""
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) > 1:
        columns = max(1, min(4, len(labels), LEGEND_WIDTH // (7 + max(map(len, labels)))))
        even = math.ceil(len(labels) / math.ceil(len(labels) / columns))
        axes.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=even)
