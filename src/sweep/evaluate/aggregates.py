"""One number for a suite of tasks: the mean of the metric chosen for each, plain and rescaled above chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pyarrow as pa

from sweep.config.tasks import ACCURACIES, FORMATS
from sweep.domain.records import Score
from sweep.evaluate.metrics import chance, choices
from sweep.evaluate.record_files import columns_of

Scores = Mapping[tuple[str, str], Score]
"""(task, metric) -> score."""


def aggregates(suite: str, metrics: Mapping[str, str], found: Scores, chances: Mapping[str, float]) -> list[Score]:
    """A suite's `mean`, and `mean_above_chance` where all its metrics are accuracies.

    Tasks count as independent. Of two that differ in their format alone (OLMES's `-mc` and `-rc`) the better one
    counts, and is reported as metric `best` of the task without the format. `mean_above_chance` is the mean of
    (accuracy - chance) / (1 - chance). ValueError where a score is missing.
    """
    best = bests(metrics, found)
    chosen = [found[item] for item in best.values()]
    made = [_mean(suite, "mean", chosen)]
    if all(metric in ACCURACIES and task in chances for task, metric in best.values()):
        above = [_above_chance(found[item], chances[item[0]]) for item in best.values()]
        made.append(_mean(suite, "mean_above_chance", above))
    formats = [_named(found[item], task, "best") for task, item in best.items() if task not in metrics]
    return [*made, *formats]


def aggregate_deltas(
    suite: str, metrics: Mapping[str, str], before: Scores, after: Scores, paired: Scores, chances: Mapping[str, float]
) -> list[Score]:
    """after - before of `aggregates`; errors paired over documents but where the better format changed."""
    old, new = bests(metrics, before), bests(metrics, after)
    gains: dict[str, Score] = {}
    for task, item in old.items():
        if item == new[task]:
            gains[task] = paired[item]
        else:
            first, second = before[item], after[new[task]]
            stderr = math.hypot(first.stderr, second.stderr)
            gains[task] = Score(
                task=task, metric="best", value=second.value - first.value, stderr=stderr, documents=second.documents
            )
    made = [_mean(suite, "mean", list(gains.values()))]
    if all(metric in ACCURACIES and task in chances for task, metric in old.values()):
        scaled = [_scaled(gains[task], 1 / (1 - chances[item[0]])) for task, item in old.items()]
        made.append(_mean(suite, "mean_above_chance", scaled))
    formats = [_named(gain, task, "best") for task, gain in gains.items() if task not in metrics]
    return [*made, *formats]


def bests(metrics: Mapping[str, str], found: Scores) -> dict[str, tuple[str, str]]:
    """Task -> the (task, metric) that counts for it: itself, or its better format."""
    missing = [f"{task}/{metric}" for task, metric in metrics.items() if (task, metric) not in found]
    if missing or not metrics:
        raise ValueError(f"no score of {', '.join(missing) or 'any task'}; there are {sorted(found)}")
    best: dict[str, tuple[str, str]] = {}
    for item in metrics.items():
        task, _, form = item[0].rpartition("-")
        name = task if form in FORMATS and task.endswith("-olmes") else item[0]
        if name not in best or found[item].value > found[best[name]].value:
            best[name] = item
    return best


def chance_of(table: pa.Table) -> float | None:
    """Accuracy of a guess; None: the records are not of choices."""
    columns = columns_of(table)
    if "greedy" in columns or columns["choice"].max() == 0:
        return None
    return chance(choices(columns))


def _mean(suite: str, metric: str, chosen: Sequence[Score]) -> Score:
    return Score(
        task=suite,
        metric=metric,
        value=math.fsum(score.value for score in chosen) / len(chosen),
        stderr=math.sqrt(math.fsum(score.stderr**2 for score in chosen)) / len(chosen),
        documents=sum(score.documents for score in chosen),
    )


def _above_chance(score: Score, guess: float) -> Score:
    scaled = _scaled(score, 1 / (1 - guess))
    return Score(**{**vars(scaled), "value": (score.value - guess) / (1 - guess)})


def _scaled(score: Score, factor: float) -> Score:
    return Score(**{**vars(score), "value": factor * score.value, "stderr": factor * score.stderr})


def _named(score: Score, task: str, metric: str) -> Score:
    return Score(**{**vars(score), "task": task, "metric": metric})
