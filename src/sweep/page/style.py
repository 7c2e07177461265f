"""How all figures look: Okabe and Ito's colours, with markers that tell series apart without colour."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweep.analysis.outcomes import Outcome

T = TypeVar("T")
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY, LIGHT = "#888888", "#c8c8c8"
MOST_TICKS, FEW_TICKS = 8, 5
"""Up to the first number each value has a tick; more values share this few ticks."""
NEAR = 0.08
"""Least distance between two labels, as a part of the axis."""
LEGEND_WIDTH = 58
"""Letters that fit side by side over one panel."""
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


def panels(
    items: Sequence[T], *, width: float = 4.6, height: float = 3.5, across: int = 2
) -> tuple[Figure, list[tuple[Axes, T]]]:
    """A figure with a panel for each item, at most `across` side by side; each panel comes with its item."""
    columns = min(len(items), across)
    rows = math.ceil(len(items) / columns)
    figure = Figure(figsize=(width * columns + 0.6, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for empty in grid[len(items) :]:
        empty.set_axis_off()
    return figure, list(zip(grid, items, strict=False))


def png(figure: Figure) -> bytes:
    """The figure as PNG with 140 dots per inch."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=140, metadata={"Software": None})
    return image.getvalue()


def unit(outcome: Outcome) -> tuple[float, str]:
    """The factor and unit in which an outcome is drawn."""
    if outcome.metric.startswith(("acc", "mean", "best")) and not outcome.metric.endswith("bits_per_byte"):
        return 100.0, "points of %"
    if outcome.metric == "loss":
        return 1.0, "nats per token"
    if "bits_per_byte" in outcome.metric:
        return 1.0, "bits per byte"
    return 1.0, outcome.metric


def tokens_unit(most: float) -> tuple[float, str]:
    """The unit for numbers of tokens up to `most`: its size and its name."""
    return next(
        ((size, word) for size, word in ((1e9, "billions"), (1e6, "millions")) if most >= size), (1e3, "thousands")
    )


def gain_label(outcome: Outcome) -> str:
    """The label of an axis that shows gains."""
    fall = "fall in " if outcome.sign < 0 else ""
    return f"gain in {outcome.name}\n({fall}{unit(outcome)[1]}; up is better)"


def series_style(place: int) -> dict[str, Any]:
    """Colour and marker of the n-th series."""
    return {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}


def numeric_x(axes: Axes, values: object) -> None:
    """Give the x axis ticks at these values, and a logarithmic scale if they are positive and span a factor of 2."""
    axes.margins(x=0.08)
    numbers = sorted({float(v) for v in np.asarray(values, dtype=float)})
    if numbers and numbers[0] > 0 and numbers[-1] / numbers[0] >= 2:
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(*ticks(numbers))
    elif len(numbers) <= MOST_TICKS:
        axes.set_xticks(*ticks(numbers))


def with_half_width(value: float, half: float) -> str:
    """The value and below it the half width of its 95 % interval, both to the digits that are known; NaN: unknown."""
    if not half > 0:
        return f"{value:+.3g}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{round(value, digits) + 0.0:+.{digits}f}\n± {half:.{digits}f}"


def ticks(numbers: Sequence[float]) -> tuple[list[float], list[str]]:
    """Places and labels of ticks: one for each number, or a few between the first and the last of many.

    A label is empty if it would be too near to the one before.
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
    """Put a legend above the panel, no wider than the panel, if there is more than one series."""
    labels = axes.get_legend_handles_labels()[1]
    if len(labels) > 1:
        columns = max(1, min(4, len(labels), LEGEND_WIDTH // (7 + max(map(len, labels)))))
        even = math.ceil(len(labels) / math.ceil(len(labels) / columns))
        axes.legend(title=title, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=even)
