"""The report as one HTML page that holds its figures and tables, so that it works offline and can be printed."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sweep.analysis.opening import Opening

MOST_ROWS = 400
"""Rows of a table on the page; the CSV file has all rows."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; } figcaption { color: #555; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { cursor: pointer; background: #f4f4f4; } th::after { content: " \\2195"; color: #999; }
td.text, th.text { text-align: left; } pre { background: #f4f4f4; padding: .6rem; white-space: pre-wrap; }
@media print { details > * { display: block; } th::after { content: ""; } figure { break-inside: avoid; } }
"""
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], at = head.cellIndex, up = head.dataset.up !== "1";
  head.dataset.up = up ? "1" : "0";
  const key = row => { const cell = row.cells[at], n = parseFloat(cell.dataset.value ?? "");
    return Number.isNaN(n) ? cell.textContent : n; };
  const less = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * less(key(a), key(b)));
  body.append(...rows);
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of a section: its answer, and the pictures and tables beside it."""

    title: str
    sentences: Sequence[str]
    figures: Mapping[str, tuple[str, bytes]]
    """Name -> title and PNG."""
    tables: Mapping[str, pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What a report says of runs that are analysed together."""

    title: str = ""
    """Empty if it is the only section."""
    opening: Opening
    first: str
    """The name of the figure beside the opening; empty if there is none."""
    questions: Sequence[Question]
    commands: Sequence[tuple[str, str]]
    """The runs worth making next: why, and the command."""


@dataclass(frozen=True)
class Report:
    """Everything on a page."""

    title: str
    introduction: Sequence[str]
    sections: Sequence[Section]
    """They don't share names of figures and tables."""


def page(report: Report) -> str:
    """The page, which needs no other file."""
    title = _text(report.title)
    parts = [f"<h1>{title}</h1>", *(f"<p>{_text(sentence)}</p>" for sentence in report.introduction)]
    for section in report.sections:
        parts += _section(section)
    head = f'<meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,"><style>{STYLE}</style>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    body = f"<main>{''.join(parts)}</main><script>{SCRIPT}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def _section(section: Section) -> list[str]:
    parts = [f"<h2>{_text(section.title)}</h2>"] if section.title else []
    said = section.opening
    parts += [f'<p class="opening">{_text(sentence)}</p>' for sentence in said.sentences]
    parts += [_command(said.command)] if said.command is not None else []
    figures = {name: figure for question in section.questions for name, figure in question.figures.items()}
    if section.first:
        parts.append(_figure(section.first, *figures.pop(section.first)))
    for question in section.questions:
        parts.append(f"<section><h3>{_text(question.title)}</h3>")
        parts.append(f"<ul>{''.join(f'<li>{_text(s)}</li>' for s in question.sentences)}</ul>")
        parts += [_figure(name, *figures[name]) for name in question.figures if name in figures]
        parts += [_table(name, table) for name, table in question.tables.items()]
        parts.append("</section>")
    if section.commands:
        parts.append("<h3>Runs worth making next</h3>")
        parts += [f"<p>{_text(why)}</p>{_command(command)}" for why, command in section.commands]
    return parts


def _command(command: str) -> str:
    return f"<pre>{_text(command)}</pre>"


def _figure(name: str, caption: str, data: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    image = f'<img id="figure-{_text(name)}" alt="{_text(caption)}" src="{source}">'
    return f"<figure><figcaption>{_text(caption)}</figcaption>{image}</figure>"


def _table(name: str, table: pd.DataFrame) -> str:
    first = table.head(MOST_ROWS)
    texts = [not pd.api.types.is_numeric_dtype(first[column]) for column in first]
    heads = "".join(_cell("th", str(c), text) for c, text in zip(first, texts, strict=True))
    rows = "".join(
        f"<tr>{''.join(_cell('td', value, text) for value, text in zip(row, texts, strict=True))}</tr>"
        for row in first.itertuples(index=False, name=None)
    )
    more = f" (the first {MOST_ROWS} of {len(table)} rows)" if len(table) > MOST_ROWS else ""
    inside = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    body = f'<div class="table"><table id="table-{_text(name)}">{inside}</table></div>'
    return f"<details><summary>{_text(name)}{more}</summary>{body}</details>"


def _cell(tag: str, value: object, text: bool) -> str:
    kind = ' class="text"' if text else ""
    if isinstance(value, float):
        digits = "" if value != value else f"{value:.5g}"
        return f'<{tag}{kind} data-value="{value!r}">{digits}</{tag}>'
    if isinstance(value, int) and not isinstance(value, bool):
        return f'<{tag}{kind} data-value="{value}">{value}</{tag}>'
    return f"<{tag}{kind}>{'' if value is None else _text(str(value))}</{tag}>"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
