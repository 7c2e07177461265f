"""Lists the runs of a report in a table that leads to their files, their pages in MLflow, and their commands."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from sweep.analysis.answers import Answers
from sweep.analysis.opening import leading
from sweep.page.html import Copied, Link
from sweep.tracking.sync_state import remembered

UI = "http://sweep.localhost:5000"
"""Where `sweep ui` serves what has no server of its own."""
COSTS = {"cost/tokens": "tokens", "cost/anneal_s": "seconds"}


def listing(runs: pd.DataFrame, answers: Answers, folder: Path) -> pd.DataFrame:
    """A row for each run, those that gained most first; links are relative to the page's `folder`."""
    if (lead := leading(answers)) is not None:
        runs = runs.sort_values(lead.column("delta"), ascending=lead.sign < 0, kind="stable", na_position="last")
    table = pd.DataFrame({"run": [_files(row, folder) for _, row in runs.iterrows()]}, index=runs.index)
    for column in ("status", "arm", "checkpoint_name", *(axis.name for axis in answers.axes), "seed"):
        if column in runs:
            table[column] = runs[column]
    for outcome in answers.primary:
        for when in ("before", "after", "delta"):
            if outcome.column(when) in runs:
                table[f"{when} {outcome.name}"] = runs[outcome.column(when)]
        if outcome.stderr("delta") in runs:
            table[f"± {outcome.name}"] = runs[outcome.stderr("delta")]
    for column, name in COSTS.items():
        if column in runs:
            table[name] = runs[column]
    table["MLflow"] = [_page(Path(row["sweep"], row["folder"])) for _, row in runs.iterrows()]
    table["repeat"] = [Copied(c) if isinstance(c, str) else None for c in runs["command"]]
    return table


def _files(row: pd.Series, folder: Path) -> Link:
    """The run's folder; browsers list it."""
    path = os.path.relpath(Path(row["sweep"], row["folder"]).absolute(), folder.absolute())
    return Link(str(row["name"]), quote(f"{path}/"))


def _page(run: Path) -> Link | None:
    """The run's page in MLflow; None if it isn't there."""
    memory = remembered(run)
    if memory is None or memory.run_id is None:
        return None
    server = memory.server if memory.server.startswith(("http://", "https://")) else UI
    return Link("page", f"{server.rstrip('/')}/#/runs/{memory.run_id}")
