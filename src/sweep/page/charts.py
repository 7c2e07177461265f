"""What a picture shows, as plain data: series of points with their intervals, on axes with labels and units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One value at one place."""

    at: float | str
    """A number, or a category."""
    value: float
    text: str = ""
    """What hovering says: the run or the setting, and its error."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one colour and marker."""

    name: str
    points: Sequence[Point]
    form: str = "points"
    """`points`, `line` (points that a line joins), `curve` (a line without markers), `stairs`,
    `steps` (stairs without markers), `band` (a line in its
    interval) or `bars` (from 0)."""
    quiet: bool = False
    """Whether it is drawn in grey, as what others are compared with."""
    like: int | None = None
    """The place of the series whose colour it has; None for a colour of its own."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One pair of axes."""

    title: str
    at: str
    """The label of the axis of places."""
    value: str
    """The label of the axis of values."""
    series: Sequence[Series]
    horizontal: bool = False
    """Whether the values run from left to right, beside categories."""
    log: bool = False
    """Whether ratios of places matter."""
    ticks: Sequence[float] = ()
    """The places that have a tick; none: round numbers."""
    order: Sequence[str] = ()
    """The categories in the order of the axis; none: as they come."""
    marks: Sequence[tuple[float, str]] = ()
    """Values that a line across the chart marks, each with its name."""
    diagonal: bool = False
    """Whether a line shows where value and place are equal."""


@dataclass(frozen=True)
class Picture:
    """Charts that show one thing."""

    title: str
    charts: Sequence[Chart]
