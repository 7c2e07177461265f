"""Draws charts as SVG, which needs no script to be seen, is sharp in print, and takes its colours from the page.

`page.js` adds hovering, legends that toggle and zoom. It knows a chart from its attributes alone: `data-at` and
`data-value` have the scales, and each point has its place as its `transform` and its words as `data-t`.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sweep.page.charts import Chart, Picture, Point, Series
from sweep.page.scales import Scale, category_scale, number_scale, short

WIDTH, HEIGHT, ROW = 460, 300, 22
RIGHT, BOTTOM, LINE, LETTER = 16, 44, 16, 6.4
"""Pixels: margins, a line of text, and about the width of a letter."""
MOST_LABEL = 28
"""Letters of a category's label."""
NEAR, APART = 4.0, 7.0
"""Points nearer than the first are drawn as far apart as the second, in pixels."""
CAP = 3
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "M-4 -4h8v8h-8z",
    "M0 -5L5 4H-5z",
    "M0 -5L5 0L0 5L-5 0z",
    "M0 5L5 -4H-5z",
    "M-4 -4L4 4M-4 4L4 -4",
    "M-5 0H5M0 -5V5",
    "M0 -5L2 -1L5 0L2 1L0 5L-2 1L-5 0L-2 -1z",
)
"""Markers, so that series are told apart without colour."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#B4548C", "#A67400", "#2A88C0", "#404040", "#777777")
"""Okabe and Ito's colours, the light ones darkened to a contrast of 3 on white."""
ALONE = (
    "svg{font:11px system-ui,sans-serif;background:#fff}text{fill:#333}.grid{stroke:#e2e2e2}.axis{stroke:#777}"
    ".mark,.bar,.line{stroke:var(--c);fill:none;stroke-width:1.6}.mark{fill:var(--c)}.band{fill:var(--c);opacity:.15}"
    ".quiet{--c:#888!important}.zero{stroke:#777}.cross{stroke:#888;stroke-dasharray:4 3}"
    + "".join(f".s{i}{{--c:{color}}}" for i, color in enumerate(COLORS))
)
"""The style of a file of its own."""


@dataclass(frozen=True)
class Frame:
    """The scales and the edges of one chart, in pixels."""

    chart: Chart
    at: Scale
    value: Scale
    left: float
    top: float
    right: float
    bottom: float

    def place(self, at: float | str, value: float, aside: float = 0.0) -> tuple[float, float]:
        """The pixel of a point."""
        along, across = self.at.pixel(at) + aside, self.value.pixel(value)
        return (across, along) if self.chart.horizontal else (along, across)


def drawn(chart: Chart, name: str) -> str:
    """The chart as an SVG element; `name` is its id on the page."""
    frame = _frame(chart)
    height = frame.bottom + BOTTOM
    scales = f'data-at="{frame.at.words()}" data-value="{frame.value.words()}"'
    box = f'data-box="{frame.left:.0f},{frame.top:.0f},{frame.right:.0f},{frame.bottom:.0f}"'
    flat = ' data-flat="1"' if chart.horizontal else ""
    inside = "".join([*_axes(frame), *_clip(name, frame), *_marks(frame), *_series(frame), "</g>", *_legend(frame)])
    return (
        f'<svg class="chart" id="{_text(name)}" viewBox="0 0 {WIDTH} {height:.0f}" role="img" tabindex="0"'
        f' aria-label="{_text(_said(chart))}" {scales} {box}{flat}>{inside}</svg>'
    )


def alone(picture: Picture) -> str:
    """All charts of a picture below each other, as an SVG file."""
    parts, y = [], 24.0
    for place, chart in enumerate(picture.charts):
        frame = _frame(chart)
        height = frame.bottom + BOTTOM
        element = drawn(chart, f"chart-{place}").replace(
            "<svg ", f'<svg y="{y:.0f}" width="{WIDTH}" height="{height:.0f}" '
        )
        parts.append(element)
        y += height + 8
    title = f'<text x="8" y="16" font-weight="600">{_text(picture.title)}</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}">'
    return f"{head}<style>{ALONE}</style>{title}{''.join(parts)}</svg>\n"


def _said(chart: Chart) -> str:
    """The chart for those who can't see it."""
    names = ", ".join(series.name for series in chart.series if series.name)
    number = sum(len(series.points) for series in chart.series)
    return f"{chart.title}: {chart.value} by {chart.at}; {number} points{f' of {names}' if names else ''}."


def _frame(chart: Chart) -> Frame:
    points = [point for series in chart.series for point in series.points]
    ends = [v for p in points for v in (p.value, p.low, p.high) if v is not None]
    ends += [value for value, _ in chart.marks]
    if any(series.form == "bars" for series in chart.series):
        ends.append(0.0)
    top = 22.0 + LINE * len(_legend_rows(chart)) + 4
    texts = list(dict.fromkeys([*chart.order, *(p.at for p in points if isinstance(p.at, str))]))
    if chart.horizontal:
        left = 14 + LETTER * min(MOST_LABEL, max((len(text) for text in texts), default=0))
        bottom = top + ROW * max(2, len(texts))
        value = number_scale(ends, left, WIDTH - RIGHT)
        return Frame(chart, category_scale(texts, top, bottom), value, left, top, WIDTH - RIGHT, bottom)
    bottom = top + HEIGHT - 84
    value = number_scale(ends, bottom, top)
    left = 30 + LETTER * max(len(short(tick)) for tick in value.ticks)
    if texts:
        at = category_scale(texts, left, WIDTH - RIGHT)
    else:
        at = number_scale([float(p.at) for p in points], left, WIDTH - RIGHT, log=chart.log, ticks=chart.ticks)
    return Frame(chart, at, value, left, top, WIDTH - RIGHT, bottom)


def _axes(frame: Frame) -> Iterator[str]:
    chart, wide, high = frame.chart, frame.right - frame.left, frame.bottom - frame.top
    across, along = (frame.value, frame.at) if chart.horizontal else (frame.at, frame.value)
    yield f'<text class="title" x="0" y="13" font-weight="600">{_text(chart.title)}</text><g class="ticks">'
    for place, label in across.labels():
        grid, text = f"M0 {-high:.0f}V0", f'y="15" text-anchor="middle">{_text(_cut(label))}'
        yield _tick("tx", f"{place:.1f},{frame.bottom:.0f}", grid, text)
    for place, label in along.labels():
        grid, text = f"M0 0H{wide:.0f}", f'x="-6" y="4" text-anchor="end">{_text(_cut(label))}'
        yield _tick("ty", f"{frame.left:.0f},{place:.1f}", grid, text)
    yield f'</g><path class="axis" fill="none" d="M{frame.left:.0f} {frame.top:.0f}v{high:.0f}h{wide:.0f}"/>'
    under, middle = f"{frame.bottom + 34:.0f}", frame.left + wide / 2
    if chart.horizontal:
        yield f'<text x="0" y="{under}">{_text(chart.at)}</text>'
        yield f'<text x="{frame.right:.0f}" y="{under}" text-anchor="end">{_text(chart.value)}</text>'
        return
    yield f'<text x="{middle:.0f}" y="{under}" text-anchor="middle">{_text(chart.at)}</text>'
    turned = f'transform="translate(11,{frame.top + high / 2:.0f}) rotate(-90)"'
    yield f'<text {turned} text-anchor="middle">{_text(chart.value)}</text>'


def _tick(kind: str, place: str, grid: str, text: str) -> str:
    return f'<g class="{kind}" transform="translate({place})"><path class="grid" d="{grid}"/><text {text}</text></g>'


def _clip(name: str, frame: Frame) -> Iterator[str]:
    box = f'x="{frame.left - 5:.0f}" y="{frame.top - 5:.0f}" width="{frame.right - frame.left + 10:.0f}"'
    yield f'<clipPath id="{_text(name)}-clip"><rect {box} height="{frame.bottom - frame.top + 10:.0f}"/></clipPath>'
    yield f'<g class="marks" clip-path="url(#{_text(name)}-clip)">'


def _marks(frame: Frame) -> Iterator[str]:
    chart = frame.chart
    low, high = frame.value.low, frame.value.high
    values = [(0.0, "zero", "")] if low < 0 < high else []
    for value, kind, name in [*values, *((value, "cross", name) for value, name in chart.marks)]:
        x = frame.value.pixel(value)
        line = (
            f"M{x:.1f} {frame.top:.0f}V{frame.bottom:.0f}"
            if chart.horizontal
            else f"M{frame.left:.0f} {x:.1f}H{frame.right:.0f}"
        )
        yield f'<path class="{kind} move" d="{line}"/>'
        if name and not chart.horizontal:
            yield f'<text x="{frame.right - 2:.0f}" y="{x - 3:.1f}" text-anchor="end" class="name">{_text(name)}</text>'
    if chart.diagonal:
        (a, b), (c, d) = (frame.place(end, end) for end in (max(low, frame.at.low), min(high, frame.at.high)))
        yield f'<path class="cross move" d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}"/>'


def _series(frame: Frame) -> Iterator[str]:
    aside = _asides(frame)
    for place, series in enumerate(frame.chart.series):
        yield f'<g class="series {_kind(series, place)}" data-s="{place}">'
        places = [frame.place(p.at, p.value, aside[place, i]) for i, p in enumerate(series.points)]
        if series.form == "band":
            yield _band(frame, series)
        if series.form in ("line", "curve", "band", "steps", "stairs") and len(places) > 1:
            yield f'<polyline class="line" points="{_joined(places, steps=series.form in ("steps", "stairs"))}"/>'
        for point, at in zip(series.points, places, strict=True):
            yield _point(frame, series, place, point, at)
        yield "</g>"


def _kind(series: Series, place: int) -> str:
    """The class that gives a series its colour."""
    color = place if series.like is None else series.like
    return f"s{color % len(COLORS)}{' quiet' if series.quiet else ''}"


def _joined(places: Sequence[tuple[float, float]], *, steps: bool) -> str:
    if steps:
        pairs = pairwise(places)
        places = [places[0], *(corner for (_, y), (u, v) in pairs for corner in ((u, y), (u, v)))]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _band(frame: Frame, series: Series) -> str:
    ends = [(p.at, p.low, p.high) for p in series.points if p.low is not None and p.high is not None]
    edge = [frame.place(at, high) for at, _, high in ends] + [frame.place(at, low) for at, low, _ in reversed(ends)]
    return f'<polygon class="band" points="{_joined(edge, steps=False)}"/>'


def _point(frame: Frame, series: Series, place: int, point: Point, at: tuple[float, float]) -> str:
    """A point with its interval and what hovering says."""
    text = f' data-t="{_text(point.text)}"' if point.text else ""
    flat, zero, here = frame.chart.horizontal, frame.value.pixel(0.0), frame.value.pixel(point.value)
    parts = []
    if series.form == "bars":
        parts.append(f'<path class="solid" data-i="0,{zero - here:.1f}" d="{_bar(zero - here, flat=flat)}"/>')
    elif point.low is not None and point.high is not None and series.form != "band":
        low, high = (frame.value.pixel(end) - here for end in (point.low, point.high))
        parts.append(f'<path class="bar" data-i="{low:.1f},{high:.1f}" d="{_interval(low, high, flat=flat)}"/>')
    if series.form != "bars":
        kind = "mark ghost" if series.form in ("curve", "band", "steps") else "mark"
        parts.append(f'<path class="{kind}" d="{SHAPES[place % len(SHAPES)]}"/>')
    return f'<g class="pt" transform="translate({at[0]:.1f},{at[1]:.1f})"{text}>{"".join(parts)}</g>'


def _bar(start: float, *, flat: bool) -> str:
    return f"M0 -7H{start:.1f}V7H0z" if flat else f"M-7 0V{start:.1f}H7V0z"


def _interval(low: float, high: float, *, flat: bool) -> str:
    if flat:
        return f"M{low:.1f} {-CAP}v{2 * CAP}m0 {-CAP}H{high:.1f}m0 {-CAP}v{2 * CAP}"
    return f"M{-CAP} {low:.1f}h{2 * CAP}m{-CAP} 0V{high:.1f}m{-CAP} 0h{2 * CAP}"


def _asides(frame: Frame) -> dict[tuple[int, int], float]:
    """How far each point (series, number) is moved aside, so that those at one place don't hide each other."""
    forms = [series.form for series in frame.chart.series]
    places = sorted(
        (frame.at.pixel(point.at), s, i)
        for s, series in enumerate(frame.chart.series)
        for i, point in enumerate(series.points)
        if forms[s] in ("points", "line", "stairs")
    )
    aside = {(s, i): 0.0 for s, series in enumerate(frame.chart.series) for i in range(len(series.points))}
    start = 0
    for end in range(1, len(places) + 1):
        if end < len(places) and places[end][0] - places[end - 1][0] < NEAR:
            continue
        group = sorted(places[start:end], key=lambda place: place[1:])
        width = min(APART, (ROW - 6 if frame.chart.horizontal else 40) / len(group))
        for number, (_, s, i) in enumerate(group):
            aside[s, i] = (number - (len(group) - 1) / 2) * width
        start = end
    return aside


def _legend_rows(chart: Chart) -> list[list[tuple[int, float]]]:
    """Rows of (series, place from the left); none for a series without company."""
    named = [(i, series.name) for i, series in enumerate(chart.series) if series.name]
    rows: list[list[tuple[int, float]]] = []
    x = WIDTH + 1.0
    for place, name in named if len(named) > 1 else ():
        width = 26 + LETTER * len(_cut(name))
        if x + width > WIDTH:
            rows.append([])
            x = 0.0
        rows[-1].append((place, x))
        x += width
    return rows


def _legend(frame: Frame) -> Iterator[str]:
    for row, entries in enumerate(_legend_rows(frame.chart)):
        for place, x in entries:
            series = frame.chart.series[place]
            kind = f"key {_kind(series, place)}"
            where = f"translate({x + 8:.0f},{28 + LINE * row})"
            mark = f'<path class="mark" d="{SHAPES[place % len(SHAPES)]}"/>'
            yield f'<g class="{kind}" role="button" tabindex="0" aria-pressed="true" data-s="{place}"'
            yield f' transform="{where}">{mark}<text x="9" y="4">{_text(_cut(series.name))}</text></g>'


def _cut(text: str) -> str:
    return text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 1]}…"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
