"""The two measures of a suite, mean accuracy and mean bits per byte of the right answers, and which of them can tell.

Bits per byte is the negative log-probability of the right answer, in bits, divided by its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.config.tasks import FORMATS
from sweep.domain.records import Score
from sweep.planning.names import label

MEAN, BITS = "mean", "mean_bits_per_byte"
"""Metrics of a suite: the mean of the chosen metric of each task, and of the bits per byte of the right answers.

If bits per byte are chosen for all tasks, their mean is the second alone: less of it is better."""
OF_TASK = "bits_per_byte"
TELLS_FROM = 10**9
"""Number of parameters from which accuracy leads.

Ai2 judges its small models by bits per byte (OlmoBaseEval Easy: Olmo 3 report, arXiv 2512.13961). Its published
anneals (allenai/OLMo, branch ladder-1xC) show why: with 370M parameters, annealing takes MMLU from 1.312 to 1.240 bits
per byte, while its accuracy falls from .292 to .288; with 1B parameters both improve.
"""
IN_BITS = frozenset({OF_TASK, "bits_per_byte_corr"})
"""Metrics of a task that are bits per byte of its right answers."""
LOWER_IS_BETTER = IN_BITS | {"loss", "perplexity", "brier_score", BITS}
"""Metrics of which less is better."""
LIMIT, SUITES = "tasks.limit", "tasks.suites."


def without_format(task: str) -> str:
    """The name of an OLMES task without its format; any other name as it is."""
    name, _, form = task.rpartition("-")
    return name if form in FORMATS and name.endswith("-olmes") else task


def bits_tasks(tasks: Iterable[str]) -> tuple[str, ...]:
    """The tasks whose bits per byte enter the suite's mean.

    All do, but of a task in both OLMES formats only the cloze one: in the other the answers are letters.
    """
    of_name: dict[str, str] = {}
    for task in tasks:
        name = without_format(task)
        if name not in of_name or task.endswith("-rc"):
            of_name[name] = task
    return tuple(of_name.values())


def means_of(metrics: Mapping[str, str]) -> tuple[str, ...]:
    """The measures that a suite has by the metric chosen for each task: one, if all of these are bits per byte."""
    return (BITS,) if metrics and IN_BITS.issuperset(metrics.values()) else (MEAN, BITS)


def bits_keys(metrics: Mapping[str, str]) -> list[tuple[str, str]]:
    """The task and metric of each number that enters a suite's mean bits per byte."""
    chosen = means_of(metrics) == (BITS,)
    return [(task, metrics[task] if chosen else OF_TASK) for task in bits_tasks(metrics)]


def mean_score(suite: str, metric: str, scores: Sequence[Score]) -> Score:
    """The mean over tasks, which count as independent."""
    return Score(
        task=suite,
        metric=metric,
        value=math.fsum(score.value for score in scores) / len(scores),
        stderr=math.sqrt(math.fsum(score.stderr**2 for score in scores)) / len(scores),
        documents=sum(score.documents for score in scores),
    )


def suites_of(params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Suite -> its tasks and the metric of each, from the params of a run."""
    suites: dict[str, dict[str, str]] = {}
    for name, metric in params.items():
        suite, dot, task = name.removeprefix(SUITES).partition(".metrics.")
        if dot and name.startswith(SUITES):
            suites.setdefault(suite, {})[task] = metric
    return suites


def with_bits_means(scores: Sequence[dict[str, Any]], params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores of a run with the means of each suite that it should have; older journals lack bits per byte."""
    limit, known = params.get(LIMIT), {(score["task"], score["metric"]): score for score in scores}
    added, replaced = [], set()
    for suite, metrics in suites_of(params).items():
        name, keys = label(suite, limit), [(label(task, limit), metric) for task, metric in bits_keys(metrics)]
        if (name, BITS) not in known and (name, MEAN) in known and all(key in known for key in keys):
            added.append(vars(mean_score(name, BITS, [Score(**known[key]) for key in keys])))
            replaced |= {(name, MEAN)} - {(name, metric) for metric in means_of(metrics)}
    return [*(score for score in scores if (score["task"], score["metric"]) not in replaced), *added]


def leading(parameters: Iterable[int | None]) -> tuple[str, str]:
    """The measures of a suite in the order of a table of models with so many parameters each; None: not known.

    Bits per byte leads if it has to for one of them.
    """
    smallest = min((0 if number is None else number for number in parameters), default=0)
    return (MEAN, BITS) if smallest >= TELLS_FROM else (BITS, MEAN)


def why_leading(parameters: Iterable[int | None], tasks: int) -> str:
    """Why the first of `leading` is first, in a sentence; `tasks` is their number."""
    numbers = list(parameters)
    known = [number for number in numbers if number is not None]
    of_tasks = f"{tasks} tasks" if tasks > 1 else "a task"
    if leading(numbers)[0] == MEAN:
        return "Accuracy comes first: from a billion parameters on, it tells checkpoints apart."
    if known and min(known) < TELLS_FROM:
        return (
            f"Bits per byte comes first: with {_millions(min(known))} million parameters, the accuracy of {of_tasks} is"
            " chance or near it."
        )
    return "Bits per byte comes first: it tells models of all sizes apart, and the size of this one is not stated."


def _millions(number: int) -> str:
    return f"{number / 1e6:.2g}" if number < 1e7 else f"{number / 1e6:.0f}"
