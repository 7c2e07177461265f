"""Which numbers of a table of outcomes are looked at, and what is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

WHENS = ("before", "after", "delta")
LIKELIHOODS = ("correct_prob", "norm_correct_prob", "margin", "bits_per_byte")
"""Of choice tasks: they separate small models where accuracy is noise (DataDecide, arXiv 2504.11393)."""
LOWER = frozenset({"loss", "perplexity", "bits_per_byte", "bits_per_byte_corr", "brier_score"})
ALL_TASKS = "tasks"
"""Stands for the plain mean over a sweep's tasks of a likelihood metric."""
HELDOUT = "heldout"


@dataclass(frozen=True)
class Outcome:
    """One number of a run."""

    metric: str
    task: str

    @property
    def name(self) -> str:
        """As in the columns."""
        return f"{self.metric}/{self.task}"

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.metric in LOWER else 1

    def column(self, when: str) -> str:
        """Its column before, after, or of the delta."""
        return f"{when}/{self.name}"

    def stderr(self, when: str) -> str:
        """The column of its standard error over documents."""
        return f"stderr/{when}/{self.name}"


def with_task_means(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with each likelihood metric's mean over all choice tasks; tasks count as independent."""
    made: dict[str, pd.Series] = {}
    for metric in LIKELIHOODS:
        for when in WHENS:
            mine = [c for c in runs if c.startswith(f"{when}/{metric}/") and not c.endswith(f"/{HELDOUT}")]
            mine = [c for c in mine if not c.rpartition("/")[2].startswith(f"{HELDOUT}:")]
            if len(mine) > 1:
                made[f"{when}/{metric}/{ALL_TASKS}"] = runs[mine].mean(axis=1)
                squares = runs[[f"stderr/{c}" for c in mine]] ** 2
                made[f"stderr/{when}/{metric}/{ALL_TASKS}"] = np.sqrt(squares.sum(axis=1, min_count=1)) / len(mine)
    return pd.concat([runs, pd.DataFrame(made, index=runs.index)], axis=1)


def outcomes(runs: pd.DataFrame) -> tuple[Outcome, ...]:
    """The numbers worth a look: suites' means and held-out loss, each task's chosen metric and its likelihoods."""
    there = [Outcome(*column.split("/", 2)[1:]) for column in runs if column.startswith("after/")]
    chosen = _chosen(runs)
    first = [o for o in there if o.metric in ("mean", "mean_above_chance")]
    held_out = [o for o in there if _plain(o.task) == HELDOUT and o.metric in ("loss", "bits_per_byte")]
    summed = [o for o in there if o.task == ALL_TASKS]
    tasks = [o for o in there if chosen.get(_plain(o.task)) == o.metric or o.metric == "best"]
    known = {o.task for o in tasks}
    likely = [o for o in there if o.task in known and o.metric in LIKELIHOODS]
    return tuple(dict.fromkeys([*first, *held_out, *summed, *tasks, *likely]))


def primary(found: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The few that a page looks at closely: suites' means, and held-out loss (or the first there is)."""
    few = [o for o in found if o.metric == "mean" or (o.metric == "loss" and _plain(o.task) == HELDOUT)]
    return tuple(few or found[:1])


def chosen_outcomes(runs: pd.DataFrame, found: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Of each task the metric that enters its suite's mean."""
    chosen = _chosen(runs)
    return tuple(o for o in found if chosen.get(_plain(o.task)) == o.metric or o.metric == "best")


def members(runs: pd.DataFrame, found: Sequence[Outcome]) -> dict[Outcome, tuple[Outcome, ...]]:
    """Suite's mean -> the tasks' outcomes that it is the mean of; suites of which one isn't there are left out."""
    made = {}
    for mean in (o for o in found if o.metric == "mean"):
        suite, _, limit = mean.task.partition(":")
        prefix = f"tasks.suites.{suite}.metrics."
        metrics = {str(c).removeprefix(prefix): runs[c].dropna() for c in runs if str(c).startswith(prefix)}
        tasks = [Outcome(m.iloc[0], f"{task}:{limit}" if limit else task) for task, m in metrics.items() if len(m)]
        if tasks and set(tasks) <= set(found):
            made[mean] = tuple(tasks)
    return made


def _chosen(runs: pd.DataFrame) -> dict[str, str]:
    """Task -> metric, as the configuration says."""
    found = {}
    for column in runs:
        suite, _, task = str(column).partition(".metrics.")
        if task and suite.startswith("tasks.suites."):
            metrics = runs[column].dropna()
            if len(metrics):
                found[task] = str(metrics.iloc[0])
    return found


def _plain(task: str) -> str:
    """A task without its limit."""
    return task.partition(":")[0]
