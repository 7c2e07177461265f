"""A report without its page: the summary for a terminal, and every answer as JSON for programs."""

from __future__ import annotations

import json
import math
from typing import Any

from sweep.page.html import Report, Section


def summary(report: Report) -> str:
    """The page's first screen: the opening of each section."""
    lines = [report.title, *report.introduction]
    for section in report.sections:
        lines += ["", *([section.title] if section.title else []), *_opening(section)]
    return "\n".join(lines) + "\n"


def as_json(report: Report, page: str) -> str:
    """The whole report; `page` is the path of its page. Numbers that are not finite are null."""
    sections = [
        {
            "title": section.title,
            "opening": section.opening.sentences,
            "command": section.opening.command,
            "findings": {question.title: question.sentences for question in section.questions},
            "next": [{"why": why, "command": command} for why, command in section.commands],
            "tables": {
                name: [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]
                for question in section.questions
                for name, table in question.tables.items()
            },
        }
        for section in report.sections
    ]
    content = {"title": report.title, "introduction": report.introduction, "sections": sections, "page": page}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _opening(section: Section) -> list[str]:
    lines = [*section.opening.sentences]
    return lines if section.opening.command is None else [*lines, f"    {section.opening.command}"]


def _plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str) or value is None:
        return value
    return str(value)
