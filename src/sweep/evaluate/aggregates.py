"""A suite in a few numbers: the mean of the metric chosen for each task, and of the bits per byte of right answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from sweep.config.tasks import ACCURACIES
from sweep.domain.records import Score
from sweep.evaluate.metrics import chance, choices
from sweep.evaluate.record_files import columns_of, own_metrics
from sweep.evaluate.scores import has_choices
from sweep.planning.measures import BITS, MEAN, bits_keys, mean_score, means_of, without_format

Scores = Mapping[tuple[str, str], Score]
"""(task, metric) -> score."""


def aggregates(suite: str, metrics: Mapping[str, str], scores: Scores, chances: Mapping[str, float]) -> list[Score]:
    """A suite's `mean`, its `mean_bits_per_byte`, and its `mean_above_chance`, where its tasks have them.

    Tasks count as independent. `mean_bits_per_byte` is over `measures.bits_keys`, and stands for a `mean` of these. Of
    two tasks that differ in their format alone (OLMES's `-mc` and `-rc`) the better one counts, and it is reported as
    metric `best` of the task without the format. `mean_above_chance` is the mean of (accuracy - chance) / (1 - chance).
    ValueError if a score is missing.
    """
    best = best_formats(metrics, scores)
    of_task = {name: scores[key] for name, key in best.items()}
    above_chance = None
    if _are_accuracies(best, chances):
        above_chance = [_above_chance(score, chances[best[name][0]]) for name, score in of_task.items()]
    return _means_and_formats(suite, metrics, of_task, above_chance) + _bits_mean(suite, metrics, scores)


def aggregate_deltas(
    suite: str, metrics: Mapping[str, str], before: Scores, after: Scores, paired: Scores, chances: Mapping[str, float]
) -> list[Score]:
    """after - before of `aggregates`. Errors are paired over documents, except where the better format changed."""
    old, new = best_formats(metrics, before), best_formats(metrics, after)
    gains = {
        name: paired[key] if key == new[name] else _unpaired_gain(before[key], after[new[name]])
        for name, key in old.items()
    }
    above_chance = None
    if _are_accuracies(old, chances):
        above_chance = [_scaled(gain, 1 / (1 - chances[old[name][0]])) for name, gain in gains.items()]
    return _means_and_formats(suite, metrics, gains, above_chance) + _bits_mean(suite, metrics, paired)


def best_formats(metrics: Mapping[str, str], scores: Scores) -> dict[str, tuple[str, str]]:
    """Task without its format -> the (task, metric) that counts for it: the only one, or that of the better format."""
    missing = [f"{task}/{metric}" for task, metric in metrics.items() if (task, metric) not in scores]
    if missing or not metrics:
        raise ValueError(f"no score of {', '.join(missing) or 'any task'}; there are {sorted(scores)}")
    best: dict[str, tuple[str, str]] = {}
    for key in metrics.items():
        name = without_format(key[0])
        if name not in best or scores[key].value > scores[best[name]].value:
            best[name] = key
    return best


def chance_of(table: pa.Table) -> float | None:
    """Accuracy of guessing; None if the records are not of choices of which one is right."""
    columns, own = columns_of(table), own_metrics(table)
    if not has_choices(columns) or columns["choice"].max() == 0 or (own is not None and own.hides != "none"):
        return None
    try:
        return chance(choices(columns))
    except ValueError:
        if own is None:
            raise
        return None  # several choices are right


def _means_and_formats(
    suite: str, metrics: Mapping[str, str], of_task: Mapping[str, Score], above_chance: Sequence[Score] | None
) -> list[Score]:
    means = [mean_score(suite, MEAN, list(of_task.values()))] if MEAN in means_of(metrics) else []
    if above_chance is not None:
        means.append(mean_score(suite, "mean_above_chance", above_chance))
    return means + [replace(score, task=name, metric="best") for name, score in of_task.items() if name not in metrics]


def _are_accuracies(best: Mapping[str, tuple[str, str]], chances: Mapping[str, float]) -> bool:
    return all(metric in ACCURACIES and task in chances for task, metric in best.values())


def _bits_mean(suite: str, metrics: Mapping[str, str], scores: Scores) -> list[Score]:
    """The mean bits per byte of the right answers; none if a task lacks it."""
    keys = bits_keys(metrics)
    return [mean_score(suite, BITS, [scores[key] for key in keys])] if all(key in scores for key in keys) else []


def _unpaired_gain(before: Score, after: Score) -> Score:
    return replace(after, value=after.value - before.value, stderr=math.hypot(before.stderr, after.stderr))


def _above_chance(score: Score, guess: float) -> Score:
    return replace(_scaled(score, 1 / (1 - guess)), value=(score.value - guess) / (1 - guess))


def _scaled(score: Score, factor: float) -> Score:
    return replace(score, value=factor * score.value, stderr=factor * score.stderr)
