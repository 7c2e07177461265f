"""The report as one HTML page that holds its pictures and tables, so that it works offline and can be printed.

The pictures are SVG of our own, with a small script. Plotly's Python package brings 4.5 MB of script for the same, and
smaller libraries are no Python packages; of theirs nothing is seen or printed without the script.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sweep.analysis.opening import Opening
from sweep.page.charts import Picture
from sweep.page.svg import drawn

MOST_ROWS, MOST_PRINTED = 1500, 30
"""Rows of a table on the page, and of one that is printed; the CSV file has all rows."""
DIGITS = 6
"""Of a number in a table; the CSV file has all digits."""


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads elsewhere."""

    text: str
    href: str


@dataclass(frozen=True)
class Copied:
    """A cell of a table with a button that copies a text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a section: its answer, and the pictures and tables beside it."""

    title: str
    sentences: Sequence[str]
    pictures: Mapping[str, Picture]
    tables: Mapping[str, pd.DataFrame]
    runs: pd.DataFrame | None = None
    """The runs, with cells that are a Link or Copied; on the page alone."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What a report says of runs that are analysed together."""

    title: str = ""
    """Empty if it is the only section."""
    opening: Opening
    first: str
    """The name of the picture beside the opening; empty if there is none."""
    questions: Sequence[Question]
    commands: Sequence[tuple[str, str]]
    """The runs worth making next: why, and the command."""


@dataclass(frozen=True)
class Report:
    """Everything on a page."""

    title: str
    introduction: Sequence[str]
    sections: Sequence[Section]
    """They don't share names of pictures and tables."""


def page(report: Report) -> str:
    """The page, which needs no other file."""
    title, (style, script) = _text(report.title), (_beside("page.css"), _beside("page.js"))
    parts = [f"<h1>{title}</h1>", *(f'<p class="about">{_text(sentence)}</p>' for sentence in report.introduction)]
    parts += [part for place, section in enumerate(report.sections) for part in _section(section, f"s{place}")]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{title}</title><link rel="icon" href="data:,"><style>{style}</style>'
    )
    body = f"<main>{''.join(parts)}</main><script>{script}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def first_picture(report: Report) -> Picture | None:
    """The picture that the page opens with."""
    pictures = {name: picture for q in report.sections[0].questions for name, picture in q.pictures.items()}
    return pictures.get(report.sections[0].first)


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _section(section: Section, anchor: str) -> list[str]:
    parts = [f"<h2>{_text(section.title)}</h2>"] if section.title else []
    said = [f'<p class="opening">{_text(sentence)}</p>' for sentence in section.opening.sentences]
    said += [_command(section.opening.command)] if section.opening.command is not None else []
    pictures = {name: picture for question in section.questions for name, picture in question.pictures.items()}
    first = pictures.pop(section.first, None)
    shown = "" if first is None else _picture(section.first, Picture(first.title, first.charts[:1]))
    parts.append(f'<div class="beside"><div>{"".join(said)}</div><div>{shown}</div></div>')
    anchors = {f"{anchor}-{place}": question for place, question in enumerate(section.questions)}
    links = [f'<a href="#{name}">{_text(question.title)}</a>' for name, question in anchors.items()]
    parts.append(f"<nav>{''.join(links)}</nav>")
    for name, question in anchors.items():
        parts.append(_question(question, name, section.first))
    if section.commands:
        parts.append("<h3>Runs worth making next</h3>")
        parts += [f"<p>{_text(why)}</p>{_command(command)}" for why, command in section.commands]
    return parts


def _question(question: Question, anchor: str, first: str) -> str:
    """Its finding, its pictures beside it, its tables folded under it; the opening has the first chart already."""
    said = f'<ul class="said">{"".join(f"<li>{_text(s)}</li>" for s in question.sentences)}</ul>'
    pictures = [
        _picture(name, Picture(picture.title, rest), after=name == first)
        for name, picture in question.pictures.items()
        if (rest := picture.charts[name == first :])
    ]
    wide = sum(len(picture.charts) for picture in question.pictures.values()) > 2
    kind = ' class="wide"' if wide or not question.sentences else ""
    beside = f'<div class="beside"><div{kind}>{said}</div><div{kind}>{"".join(pictures)}</div></div>'
    tables = [_table(name, table) for name, table in question.tables.items()]
    tables += [] if question.runs is None else [_table("runs", question.runs)]
    return f'<section id="{anchor}"><h3>{_text(question.title)}</h3>{beside}{"".join(tables)}</section>'


def _command(command: str) -> str:
    return f'<pre class="command">{_text(command)}</pre>'


def _picture(name: str, picture: Picture, *, after: bool = False) -> str:
    start = 1 if after else 0
    charts = "".join(drawn(chart, f"figure-{name}-{place}") for place, chart in enumerate(picture.charts, start))
    return f'<figure><figcaption>{_text(picture.title)}</figcaption><div class="charts">{charts}</div></figure>'


def _table(name: str, table: pd.DataFrame) -> str:
    """A folded table, whose rows are JSON that becomes elements where they are scrolled to."""
    first = table.head(MOST_ROWS)
    heads = "".join(
        f'<th scope="col"{"" if pd.api.types.is_numeric_dtype(first[column]) else CLASS}>'
        f'<button type="button">{_text(str(column))}</button></th>'
        for column in first
    )
    rows = [[_cell(value) for value in row] for row in first.itertuples(index=False, name=None)]
    content = json.dumps(rows, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    more = f" (the first {MOST_ROWS} of {len(table)} rows)" if len(table) > MOST_ROWS else f" ({len(table)} rows)"
    printed = " print" if len(table) <= MOST_PRINTED else ""
    search = f'<label>filter <input type="search" aria-label="filter {_text(name)}"></label> <output></output>'
    return (
        f'<details class="rows{printed}"><summary>{_text(name)}{more}</summary><div>{search}</div>'
        f'<div class="table" tabindex="0"><script type="application/json">{content}</script>'
        f'<table id="table-{_text(name)}"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div></details>'
    )


CLASS = ' class="text"'


def _cell(value: Any) -> Any:
    """A cell as JSON has it."""
    if isinstance(value, Link):
        return {"text": value.text, "href": value.href}
    if isinstance(value, Copied):
        return {"copy": value.text}
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str) or value is None else str(value)


def _text(text: str) -> str:
    return html.escape(text, quote=True)
