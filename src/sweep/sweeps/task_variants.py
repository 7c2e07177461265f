"""Tells apart the tasks of one name that the runs of a table asked in different ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweep.config.tasks import HELDOUT
from sweep.domain.digests import digest
from sweep.planning.names import label, told_apart
from sweep.sweeps.outcome_table import PARAM

DIGESTS = "task_digests"
DECIDING = (f"{PARAM}tasks.", f"{PARAM}data.heldout", DIGESTS)
"""How the columns begin that say what a run asked."""


@dataclass(frozen=True)
class Asked:
    """How one run asked one task, or which tasks one suite averaged."""

    choices: Mapping[str, Any]
    """The params that decide it."""
    content: str | None
    """Digest of what was asked, with the content of all files; None: the journal is older and doesn't say."""


def with_tasks_apart(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of `outcomes.read_outcomes`, in which a column of scores holds one task, asked in one way.

    Where a name stands for several, each is extended: `arc_easy:num_fewshot=5`.
    """
    columns = [name for name in runs if name.startswith(DECIDING)]
    sets = runs[columns].astype(object).where(runs[columns].notna(), None).apply(tuple, axis=1)
    asked = {key: dict(_asked(dict(zip(columns, key, strict=True)))) for key in dict.fromkeys(sets)}
    names = _names(asked)
    for key, renamed in names.items():
        rows = sets == key
        if renamed:
            runs = _renamed(runs, rows, renamed)
    return runs


def _asked(row: Mapping[str, str | None]) -> Iterable[tuple[str, Asked]]:
    """The tasks and suites of a run, with their limit in the name."""
    params = {name.removeprefix(PARAM): json.loads(text) for name, text in row.items() if text and name != DIGESTS}
    digests: dict[str, str] = json.loads(row.get(DIGESTS) or "{}")
    limit = params.get("tasks.limit")
    shared = {name: params[name] for name in ("tasks.include", "tasks.source") if name in params}
    suites = dict.fromkeys(name.split(".")[2] for name in params if name.startswith("tasks.suites."))
    for suite in suites:
        prefix = f"tasks.suites.{suite}."
        leaves = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
        metrics = {name: value for name, value in leaves.items() if name.startswith("metrics.")}
        how = {name: value for name, value in leaves.items() if name not in metrics} | shared
        tasks = [label(name.removeprefix("metrics."), limit) for name in metrics]
        for task in tasks:
            yield task, Asked(how, digests.get(task))
        known = [digests[task] for task in tasks if task in digests]
        yield label(suite, limit), Asked(how | metrics, digest(known) if known else None)
    if params.get("data.heldout") is not None:
        held_out = label(HELDOUT, limit)
        yield held_out, Asked({"data.heldout": params["data.heldout"]}, digests.get(held_out))


def _names(asked: Mapping[Any, Mapping[str, Asked]]) -> dict[Any, dict[str, str]]:
    """For each set of tasks, the names that need an extension -> the extended name."""
    names: dict[Any, dict[str, str]] = {key: {} for key in asked}
    for task in dict.fromkeys(task for tasks in asked.values() for task in tasks):
        keys = [key for key, tasks in asked.items() if task in tasks]
        ways = [asked[key][task] for key in keys]
        chosen = [digest(dict(way.choices)) for way in ways]
        # a journal that doesn't say what it asked is taken to have asked what others with its choices asked
        usual = {choice: way.content for choice, way in zip(chosen, ways, strict=True) if way.content}
        told = [f"{way.content or usual.get(choice) or ''}{choice}" for choice, way in zip(chosen, ways, strict=True)]
        for key, name in zip(keys, told_apart([task] * len(keys), [way.choices for way in ways], told), strict=True):
            if name != task:
                names[key][task] = f"{task}:{name.removeprefix(task).strip()}"
    return names


def _renamed(runs: pd.DataFrame, rows: pd.Series, renamed: Mapping[str, str]) -> pd.DataFrame:
    """The runs in which these rows have their scores and records under other names."""
    moved = {}
    for column in map(str, runs):
        task = column.split("/", 3 if column.startswith("stderr/") else 2)[-1]
        if task in renamed and column.startswith(("before/", "after/", "delta/", "stderr/")):
            moved[column] = f"{column.removesuffix(task)}{renamed[task]}"
    new = {name: runs.get(name, pd.Series(float("nan"), index=runs.index)) for name in moved.values()}
    runs = runs.assign(**{moved[column]: new[moved[column]].where(~rows, runs[column]) for column in moved})
    runs = runs.assign(**{column: runs[column].where(~rows) for column in moved})
    records = [
        _renamed_records(text, renamed) if row else text for text, row in zip(runs["records"], rows, strict=True)
    ]
    return runs.assign(records=records)


def _renamed_records(text: str | None, renamed: Mapping[str, str]) -> str:
    paths = {tuple(name.split("/", 1)): path for name, path in json.loads(text or "{}").items()}
    return json.dumps({f"{when}/{renamed.get(task, task)}": path for (when, task), path in paths.items()})
