"""Puts names and messages into Markdown so that a browser shows them, and nothing in them is markup or HTML."""

from __future__ import annotations

import re

MARKUP = re.compile(r"[\\`*\[\]<>&|~]")
"""Characters that mean something within a line of Markdown, or end a cell of a table."""


def text(words: object) -> str:
    """The words as plain text in one line."""
    return MARKUP.sub(_entity, " ".join(str(words).split()))


def code(words: object) -> str:
    """The words as code within a line."""
    line = " ".join(str(words).split())
    return f"<code>{text(line)}</code>" if re.search("[`<>&|]", line) else f"`{line}`"


def block(lines: str) -> str:
    """The lines as a block of code."""
    if re.search("[`<>&]", lines):
        return f"<pre><code>{MARKUP.sub(_entity, lines)}</code></pre>"
    return f"```\n{lines}\n```"


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"
