"""Scores of a task: arithmetic on its records, never a forward pass.

Each metric is a ratio of two sums over documents, or a plain mean if the second sum counts documents. So one formula
gives every standard error: that of the delta method, which for a mean is lm-eval's `mean_stderr`. The score of a task
with subjects is the mean over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sweep.config.tasks import HELDOUT
from sweep.domain.records import Score
from sweep.evaluate.metrics import available, choices, values
from sweep.evaluate.record_files import OWN, OwnMetrics, columns_of, own_metrics

LM_EVALS = ("acc", "acc_norm", "acc_bytes", "acc_micro", "brier_score", "perplexity")
"""Our metrics that have lm-eval's names; a task with code of its own for them may mean something else."""
EXP_LIMIT = 700.0
"""From this mean loss on, in nats, a perplexity is infinite: e**710 is more than a float holds."""

Floats = NDArray[np.float64]


class Ratio(NamedTuple):
    """A metric of D documents, as the fraction sum(numerator) / sum(denominator)."""

    numerator: Floats
    """(D,) each document's part, such as 1 for a right answer or the bits of its text."""
    denominator: Floats
    """(D,) what a document counts: 1 for a mean over documents, its bytes for bits per byte."""
    subject: NDArray[Any] | None
    """(D,) the subject of each document; None: the metric is not a mean over subjects."""
    pooled: bool = False
    """Whether subjects count as many times as they have documents."""
    exponential: bool = False
    """Whether the metric is the exponential of the fraction."""


def scores(task: str, table: pa.Table) -> tuple[Score, ...]:
    """All metrics that the records of a task allow; what lm-eval's own code gave (`own_metrics`) counts.

    Tasks with choices: those of `metrics.METRICS`, averaged over documents. With subjects they are averaged over
    subjects, and `acc_micro` over documents. Tasks with one continuation per document, like lm-eval's `loglikelihood`
    ones: `acc` (all tokens are the likeliest), `perplexity` per document, and `bits_per_byte` over all documents
    together. Held-out text: `loss` in nats per token, its exponential `perplexity`, and `bits_per_byte`, each over all
    documents together.
    """
    return tuple(_score(task, metric, ratio) for metric, ratio in _ratios(task, table).items())


def deltas(task: str, before: pa.Table, after: pa.Table) -> tuple[Score, ...]:
    """after - before of every metric, with errors paired over documents; ValueError if the documents differ."""
    measured = ("log_probability", "unconditional_log_probability", "greedy")
    asked = [
        [name for name in table.schema.names if name not in measured and not name.startswith(OWN)]
        for table in (before, after)
    ]
    if asked[0] != asked[1] or not before.select(asked[0]).equals(after.select(asked[0])):
        raise ValueError(f"{task}: the records before and after are not of the same documents and choices")
    first, second = _ratios(task, before), _ratios(task, after)
    return tuple(_delta(task, metric, old, second[metric]) for metric, old in first.items() if metric in second)


def _delta(task: str, metric: str, before: Ratio, after: Ratio) -> Score:
    if len(before.numerator) != len(after.numerator):  # a task's own code gives the metric to other documents
        old, new = _score(task, metric, before), _score(task, metric, after)
        return replace(new, value=new.value - old.value, stderr=math.hypot(old.stderr, new.stderr))
    if before.exponential:
        old, new = _score(task, metric, before), _score(task, metric, after)
        gain = before._replace(numerator=new.value * after.numerator - old.value * before.numerator)
        return replace(old, value=new.value - old.value, stderr=_mean(gain)[1])
    return _score(task, metric, before._replace(numerator=after.numerator - before.numerator))


def _score(task: str, metric: str, ratio: Ratio) -> Score:
    """The score of a metric; ValueError if a subject, or the task, has a single document."""
    documents = len(ratio.numerator)
    if ratio.subject is None:
        parts = [ratio]
    else:
        members = [ratio.subject == name for name in np.unique(ratio.subject)]
        parts = [Ratio(ratio.numerator[member], ratio.denominator[member], None) for member in members]
    if (fewest := min(len(part.numerator) for part in parts)) < 2:
        raise ValueError(f"{task}: {fewest} document(s) give no standard error; score at least 2 (tasks.limit)")
    means = [_mean(part) for part in parts]
    if ratio.pooled:  # as lm-eval's `aggregate_subtask_metrics` and `pooled_sample_stderr`
        sizes = [len(part.numerator) for part in parts]
        value = math.fsum(size * mean for size, (mean, _) in zip(sizes, means, strict=True)) / documents
        variance = math.fsum((size - 1) * size * stderr**2 for size, (_, stderr) in zip(sizes, means, strict=True))
        stderr = math.sqrt(variance / (documents - len(parts)) / documents)
    else:
        value = math.fsum(mean for mean, _ in means) / len(parts)
        stderr = math.sqrt(math.fsum(stderr**2 for _, stderr in means)) / len(parts)
    if ratio.exponential:  # the exponential of the mean loss, with its error by the delta method
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
    """Every metric that the records allow, before it is summed."""
    columns, own = columns_of(table), own_metrics(table)
    for name in ("log_probability", "unconditional_log_probability"):
        if name in columns and not np.isfinite(columns[name]).all():
            raise ValueError(f"{task}: a log-probability is not finite")
    if task == HELDOUT:
        return _text_ratios(columns)
    if own is None:
        return _our_ratios(task, columns)
    given = _own_ratios(columns, own)
    if own.hides == "all":
        return given
    try:
        ours = _our_ratios(task, columns)
    except ValueError:  # several right choices, or none: the task's own code knows what to make of it
        return given
    hidden = LM_EVALS if own.hides == "lm-eval's" else ()
    return {metric: ratio for metric, ratio in ours.items() if metric not in hidden} | given


def has_choices(columns: Mapping[str, NDArray[Any]]) -> bool:
    """Whether documents have several choices, rather than a single continuation that may be the likeliest."""
    return not ("greedy" in columns and columns["choice"].max() == 0)


def _own_ratios(columns: Mapping[str, NDArray[Any]], own: OwnMetrics) -> dict[str, Ratio]:
    """lm-eval's metrics, each over the documents that it was given to."""
    _, first_row = np.unique(columns["document"], return_index=True)
    ratios: dict[str, Ratio] = {}
    for name in columns:
        if name.startswith(OWN):
            metric, of_documents = name.removeprefix(OWN), columns[name][first_row]
            present = ~np.isnan(of_documents)
            subject = columns["subject"][first_row][present] if "subject" in columns else None
            values = of_documents[present]
            if len(values):
                ratios[metric] = Ratio(values, np.ones(len(values)), subject, metric in own.pooled)
    return ratios


def _our_ratios(task: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, Ratio]:
    """The metrics that our own formulas give."""
    if not has_choices(columns):
        return _continuation_ratios(columns)
    try:
        grid = choices(columns)
    except ValueError as error:
        raise ValueError(f"{task}: {error}") from None
    documents, first_row = np.unique(columns["document"], return_index=True)
    subject = columns["subject"][first_row] if "subject" in columns else None
    ratios = {metric: Ratio(values(grid, metric), np.ones(len(documents)), subject) for metric in available(grid)}
    if subject is not None and "acc" in ratios:
        ratios["acc_micro"] = ratios["acc"]._replace(subject=None)
    return ratios


def _text_ratios(columns: Mapping[str, NDArray[Any]]) -> dict[str, Ratio]:
    nats, tokens = -columns["log_probability"], columns["tokens"].astype(np.float64)
    return {
        "loss": Ratio(nats, tokens, None),
        "perplexity": Ratio(nats, tokens, None, exponential=True),
        "bits_per_byte": Ratio(nats / math.log(2), columns["bytes"].astype(np.float64), None),
    }


def _continuation_ratios(columns: Mapping[str, NDArray[Any]]) -> dict[str, Ratio]:
    nats, subject = -columns["log_probability"], columns.get("subject")
    ones = np.ones(len(nats))
    return {
        "acc": Ratio(columns["greedy"].astype(np.float64), ones, subject),
        "perplexity": Ratio(nats, ones, None, exponential=True),
        "bits_per_byte": Ratio(nats / math.log(2), columns["bytes"].astype(np.float64), subject),
    }
