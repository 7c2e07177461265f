"""Which numbers of a run are its outcomes, which of them a report shows, and which direction is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from sweep.planning.measures import BITS, LOWER_IS_BETTER, MEAN, OF_TASK, bits_keys

WHENS = ("before", "after", "delta")
LIKELIHOODS = ("correct_prob", "norm_correct_prob", "margin", "bits_per_byte")
"""Metrics of choice tasks that separate small models where accuracy is noise (DataDecide, arXiv 2504.11393)."""
ALL_TASKS = "tasks"
"""Stands for the plain mean of a likelihood metric over the tasks of a sweep."""
HELDOUT = "heldout"


@dataclass(frozen=True)
class Outcome:
    """One number of a run."""

    metric: str
    task: str
    """With its limit of documents, if it has one: `boolq:200`."""

    @property
    def name(self) -> str:
        """The name in tables and labels."""
        return f"{self.metric}/{self.task}"

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is better."""
        return sign_of(self.metric)

    @property
    def plain_task(self) -> str:
        """The task without its limit."""
        return self.task.partition(":")[0]

    def column(self, when: str) -> str:
        """The column of its value `before`, `after`, or of the `delta`."""
        return f"{when}/{self.name}"

    def stderr(self, when: str) -> str:
        """The column of its standard error over documents."""
        return f"stderr/{when}/{self.name}"


def sign_of(metric: str) -> int:
    """1 if more of it is better, -1 if less is better."""
    return -1 if metric in LOWER_IS_BETTER else 1


def with_task_means(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with the mean of each likelihood metric over all choice tasks; errors of tasks count as independent.

    Only a run that has all tasks has a mean, so that means of different tasks are never compared. Bits per byte has
    none where suites have means of it.
    """
    measured = _measured(runs)
    of_suites = any(o.metric == BITS for o in measured)
    outcomes = [o for o in measured if o.plain_task != HELDOUT and _in_cloze(o, measured)]
    means: dict[str, pd.Series] = {}
    for metric, when in product((m for m in LIKELIHOODS if m != OF_TASK or not of_suites), WHENS):
        tasks = [o for o in outcomes if o.metric == metric]
        columns, errors = [o.column(when) for o in tasks], [o.stderr(when) for o in tasks]
        if len(tasks) > 1 and {*columns, *errors} <= set(runs) and runs[columns].notna().all(axis=1).any():
            mean = Outcome(metric, ALL_TASKS)
            means[mean.column(when)] = runs[columns].mean(axis=1, skipna=False)
            means[mean.stderr(when)] = np.sqrt((runs[errors] ** 2).sum(axis=1, skipna=False)) / len(tasks)
    return pd.concat([runs, pd.DataFrame(means, index=runs.index)], axis=1)


def _in_cloze(outcome: Outcome, measured: Sequence[Outcome]) -> bool:
    """Whether it is not the half of an OLMES task whose likelihoods are those of the letters of the choices."""
    other = outcome.task.replace("-olmes-mc", "-olmes-rc")
    return other == outcome.task or Outcome(outcome.metric, other) not in measured


def reported_outcomes(runs: pd.DataFrame) -> tuple[Outcome, ...]:
    """In this order: means of suites, held-out loss, means over tasks, each task's chosen metric, its likelihoods.

    `leading.in_order` puts those means first that can tell.
    """
    measured = _measured(runs)
    means = [o.task for o in measured if o.metric in (MEAN, BITS)]
    suites = [Outcome(metric, suite) for suite in means for metric in (MEAN, BITS, "mean_above_chance")]
    suites = [o for o in suites if o in measured]
    held_out = [o for o in measured if o.plain_task == HELDOUT and o.metric in ("loss", "bits_per_byte")]
    over_tasks = [o for o in measured if o.task == ALL_TASKS]
    chosen = chosen_outcomes(runs, measured)
    tasks = {o.task for o in chosen}
    likelihoods = [o for o in measured if o.task in tasks and o.metric in LIKELIHOODS]
    return tuple(dict.fromkeys([*suites, *held_out, *over_tasks, *chosen, *likelihoods]))


def primary_outcomes(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Means of suites and held-out loss, which a report looks at closely; the first outcome if there are none."""
    primary = [o for o in outcomes if o.metric in (MEAN, BITS) or (o.metric == "loss" and o.plain_task == HELDOUT)]
    return tuple(primary or outcomes[:1])


def chosen_outcomes(runs: pd.DataFrame, outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """For each task the metric that enters the mean of its suite."""
    metrics: dict[str, str] = {}
    for column in map(str, runs):
        suite, _, task = column.partition(".metrics.")
        if task and suite.startswith("tasks.suites.") and len(values := runs[column].dropna()):
            metrics[task] = str(values.iloc[0])
    return tuple(o for o in outcomes if metrics.get(o.plain_task) == o.metric or o.metric == "best")


def suite_members(runs: pd.DataFrame, outcomes: Sequence[Outcome]) -> dict[Outcome, tuple[Outcome, ...]]:
    """The means of each suite -> the outcomes that they average; without means of which an outcome is missing."""
    members, known = {}, {*outcomes, *_measured(runs)}
    for mean in (o for o in outcomes if o.metric in (MEAN, BITS)):
        suite, _, limit = mean.task.partition(":")
        prefix = f"tasks.suites.{suite}.metrics."
        chosen = {str(c).removeprefix(prefix): runs[c].dropna() for c in runs if str(c).startswith(prefix)}
        metrics = {task: str(values.iloc[0]) for task, values in chosen.items() if len(values)}
        if mean.metric == BITS:
            metrics = dict(bits_keys(metrics))
        tasks = [Outcome(metric, f"{task}:{limit}" if limit else task) for task, metric in metrics.items()]
        if tasks and set(tasks) <= known:
            members[mean] = tuple(tasks)
    return members


def _measured(runs: pd.DataFrame) -> list[Outcome]:
    """The outcomes that any run has after its anneal."""
    return [Outcome(*column.split("/", 2)[1:]) for column in runs if column.startswith("after/")]
