"""Keeps the opening sentences of a sweep's last report in its folder, so that its note in MLflow begins with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.analysis.opening import Opening
from sweep.system.sealed import read_sealed, write_sealed
from sweep.tracking.markdown import block, text

FILE = ".opening.json"


def keep_opening(sweep: Path, runs: int, openings: Sequence[tuple[str, Opening]]) -> None:
    """Write the opening of each part of a report, with the part's title, and of how many runs the report is."""
    parts = [{"title": title, "sentences": said.sentences, "command": said.command} for title, said in openings]
    write_sealed(sweep / FILE, {"runs": runs, "parts": parts})


def opening_note(sweep: Path) -> str:
    """The kept openings in Markdown; empty if there was no report."""
    kept = read_sealed(sweep / FILE, remedy="sweep report writes it again") if (sweep / FILE).is_file() else None
    if kept is None:
        return ""
    lines: list[str] = []
    for part in kept["parts"]:
        lines += [f"**{text(part['title'])}**", ""] if part["title"] else []
        lines += [line for sentence in part["sentences"] for line in (text(sentence), "")]
        lines += [block(part["command"]), ""] if part["command"] else []
    return "\n".join([*lines, f"This is from the report of {kept['runs']} runs (artifact report/report.html).", "", ""])
