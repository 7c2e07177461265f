"""Scores of a task: arithmetic on its records, never a forward pass.

Every metric is a ratio of two sums over documents (a plain mean where the second counts documents), so one formula
gives every standard error: the delta method's, which for a mean is lm-eval's `mean_stderr`. A task of several subjects
has the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweep.config.tasks import HELDOUT
from sweep.domain.records import Score
from sweep.evaluate.metrics import Choices, available, choices, values
from sweep.evaluate.record_files import columns_of

EXP_LIMIT = 700.0
"""A perplexity of more than about e**709 is infinite."""

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    """A metric before it is summed; D documents each."""

    numerator: Floats
    denominator: Floats
    subject: NDArray[Any] | None
    """The subject of each document; None: the metric is not a mean over subjects."""


def scores(task: str, table: pa.Table) -> tuple[Score, ...]:
    """All metrics that the records of a task allow.

    Choice tasks: those of `metrics.METRICS`, averaged over documents; with subjects, `acc_micro` beside the means over
    subjects. Tasks of one continuation a document, as lm-eval's `loglikelihood` ones: `acc`, every token of it is the
    likeliest; `perplexity`, of a document; `bits_per_byte`, over all documents together. Held-out text: `loss` in nats
    a token, `perplexity`, its exponential, and `bits_per_byte`, all over all documents together.
    """
    return tuple(_score(task, metric, ratio) for metric, ratio in _ratios(task, table).items())


def deltas(task: str, before: pa.Table, after: pa.Table) -> tuple[Score, ...]:
    """after - before of every metric, its standard error paired over documents; ValueError for differing documents."""
    measured = ("log_probability", "unconditional_log_probability", "greedy")
    same = [name for name in before.schema.names if name not in measured]
    if before.schema.names != after.schema.names or not before.select(same).equals(after.select(same)):
        raise ValueError(f"{task}: the records before and after are not of the same documents and choices")
    first, second = _ratios(task, before), _ratios(task, after)
    return tuple(_delta(task, metric, old, second[metric]) for metric, old in first.items())


def chosen(task: str, metric: str, table: pa.Table) -> Score:
    """One metric of a task; ValueError saying what the records lack where they don't allow it."""
    return _score(task, metric, _ratio_of(choices(columns_of(table)), metric, _subjects(columns_of(table))))


def _delta(task: str, metric: str, before: Ratio, after: Ratio) -> Score:
    if metric == "perplexity":
        old, new = _score(task, metric, before), _score(task, metric, after)
        gain = _ratio(before, numerator=new.value * after.numerator - old.value * before.numerator)
        return Score(
            task=task,
            metric=metric,
            value=new.value - old.value,
            stderr=_mean(gain)[1],
            documents=old.documents,
        )
    return _score(task, metric, _ratio(before, numerator=after.numerator - before.numerator))


def _ratio(old: Ratio, *, numerator: Floats) -> Ratio:
    return old._replace(numerator=numerator)


def _score(task: str, metric: str, ratio: Ratio) -> Score:
    """Ratio of the sums, with its standard error over documents."""
    documents = len(ratio.numerator)
    if ratio.subject is None:
        parts = [ratio]
    else:
        members = [ratio.subject == name for name in np.unique(ratio.subject)]
        parts = [Ratio(ratio.numerator[mine], ratio.denominator[mine], None) for mine in members]
    if (fewest := min(len(part.numerator) for part in parts)) < 2:
        raise ValueError(f"{task}: {fewest} document(s) give no standard error; score at least 2 (tasks.limit)")
    means = [_mean(part) for part in parts]
    value = math.fsum(mean for mean, _ in means) / len(parts)
    stderr = math.sqrt(math.fsum(stderr**2 for _, stderr in means)) / len(parts)
    if metric == "perplexity":  # of the mean loss, by the delta method
        value = math.exp(value) if value < EXP_LIMIT else math.inf
        stderr *= value
    return Score(task=task, metric=metric, value=value, stderr=stderr, documents=documents)


def _mean(ratio: Ratio) -> tuple[float, float]:
    """Ratio of the sums, and its standard error."""
    documents = len(ratio.numerator)
    value = float(ratio.numerator.sum() / ratio.denominator.sum())
    residual = ratio.numerator - value * ratio.denominator
    stderr = math.sqrt(documents / (documents - 1) * (residual**2).sum()) / ratio.denominator.sum()
    return value, float(stderr)


def _ratios(task: str, table: pa.Table) -> dict[str, Ratio]:
    """Every metric before it is summed."""
    columns = columns_of(table)
    for name in ("log_probability", "unconditional_log_probability"):
        if name in columns and not np.isfinite(columns[name]).all():
            raise ValueError(f"{task}: a log-probability is not finite")
    if task == HELDOUT:
        return _text_ratios(columns)
    if "greedy" in columns:
        return _continuation_ratios(columns)
    try:
        grid = choices(columns)
    except ValueError as error:
        raise ValueError(f"{task}: {error}") from None
    subject = _subjects(columns)
    found = {metric: _ratio_of(grid, metric, subject) for metric in available(grid)}
    if subject is not None:
        found["acc_micro"] = found["acc"]._replace(subject=None)
    return found


def _ratio_of(grid: Choices, metric: str, subject: NDArray[Any] | None) -> Ratio:
    value = values(grid, metric)
    return Ratio(value, np.ones(len(value)), subject)


def _subjects(columns: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """(D,) the subject of each document, in the order of the documents."""
    if "subject" not in columns:
        return None
    _, first = np.unique(columns["document"], return_index=True)
    return columns["subject"][first]


def _text_ratios(columns: Mapping[str, NDArray[Any]]) -> dict[str, Ratio]:
    nats, tokens = -columns["log_probability"], columns["tokens"].astype(np.float64)
    return {
        "loss": Ratio(nats, tokens, None),
        "perplexity": Ratio(nats, tokens, None),
        "bits_per_byte": Ratio(nats / math.log(2), columns["bytes"].astype(np.float64), None),
    }


def _continuation_ratios(columns: Mapping[str, NDArray[Any]]) -> dict[str, Ratio]:
    nats, one = -columns["log_probability"], np.ones(len(columns["log_probability"]))
    subject = columns.get("subject")
    return {
        "acc": Ratio(columns["greedy"].astype(np.float64), one, subject),
        "perplexity": Ratio(nats, one, None),
        "bits_per_byte": Ratio(nats / math.log(2), columns["bytes"].astype(np.float64), subject),
    }
