"""The metrics that lm-eval's own code gives a custom task, as columns of its records.

lm-eval's `process_results` turns the log-likelihoods of a document into values, and an aggregation turns the values of
all documents into a number. A column holds a value of each document whose mean is that number, whatever the
aggregation: where it is no mean, the values are those of its linear approximation, whose spread is that of the number.
"""

from __future__ import annotations

import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from lm_eval.api.metrics import mean, nanmean
from numpy.typing import NDArray

from sweep.domain.errors import Refusal
from sweep.evaluate.record_files import OWN, OwnMetrics, columns_of, with_facts

log = logging.getLogger(__name__)
Floats = NDArray[np.float64]
Aggregation = Callable[[Sequence[Any]], Any]
Answer = tuple[float, bool]
"""Log-probability of a request in nats, and whether all its tokens are the likeliest ones."""

PARTS = 200
"""Of the documents, each left out once to find how much the number of an aggregation depends on it."""
PROBED = 200
"""Documents on which lm-eval's code and the definition's own are tried before anything is computed."""


@dataclass(frozen=True)
class ScoredDocument:
    """A document of a custom task, with the definition that asks and scores it."""

    definition: Any
    """lm-eval's task."""
    row: Mapping[str, Any]
    requests: int
    """Requests that lm-eval asks; the last ones without the question, if the task has `acc_mutual_info`."""


def with_own_metrics(
    table: pa.Table, documents: Sequence[ScoredDocument], facts: OwnMetrics, *, chosen: str
) -> pa.Table:
    """The records of a custom task with a column for each of lm-eval's metrics.

    A document for which `process_results` leaves a metric out has no value. A metric that lm-eval can't aggregate is
    left out; Refusal if it is the `chosen` one, or if the definition's own code fails.
    """
    columns = columns_of(table)
    starts = np.flatnonzero(np.diff(columns["document"], prepend=-1))
    answers = [_answers(columns, rows) for rows in np.split(np.arange(len(table)), starts[1:])]
    failed: dict[str, str] = {}
    try:
        values = _values(documents, answers, linearised, failed)
    except Exception as error:  # a person's own code: whatever it raises
        raise Refusal(f"tasks.include: process_results fails: {type(error).__name__}: {error}") from error
    if chosen in failed:
        raise Refusal(f"tasks.suites.custom.metrics: {failed[chosen]}")
    for words in failed.values():
        log.warning("%s", words)
    lengths = np.diff([*starts, len(table)])
    for metric, of_documents in values.items():
        column = np.repeat(of_documents, lengths)
        table = table.append_column(f"{OWN}{metric}", pa.array(column, pa.float64(), from_pandas=True))
    return with_facts(table, facts)


def metrics_of(documents: Sequence[ScoredDocument], key: str) -> tuple[str, ...]:
    """The metrics that lm-eval gives some of the documents, tried with made-up answers; Refusal if its code fails."""
    probed = documents[:PROBED]
    made_up = [[(-1.0 - index, False) for index in range(document.requests)] for document in probed]
    try:
        return tuple(_values(probed, made_up, lambda aggregation, items: np.full(len(items), np.nan), {}))
    except Exception as error:  # a person's own code, or lm-eval's: whatever they raise
        raise Refusal(f"{key}: lm-eval's code can't score it: {type(error).__name__}: {error}") from error


def _answers(columns: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> list[Answer]:
    """The answers to a document's requests in lm-eval's order: with the question, then without it."""
    nats = columns["log_probability"][rows].tolist()
    greedy = columns["greedy"][rows].tolist() if "greedy" in columns else [False] * len(rows)
    without = (
        columns["unconditional_log_probability"][rows].tolist() if "unconditional_log_probability" in columns else []
    )
    return [*zip(nats, greedy, strict=True), *((value, False) for value in without)]


def _processed(document: ScoredDocument, answers: Sequence[Answer]) -> Mapping[str, Any]:
    """lm-eval's values for one document."""
    rolling = document.definition.OUTPUT_TYPE == "loglikelihood_rolling"
    results = [value for value, _ in answers] if rolling else list(answers)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = document.definition.process_results(document.row, results[: document.requests])
    if not isinstance(found, Mapping):
        raise TypeError(f"process_results gives {type(found).__name__}, and no mapping from metrics to values")
    return found


def _values(
    documents: Sequence[ScoredDocument],
    answers: Sequence[Sequence[Answer]],
    summed: Callable[[Aggregation, Sequence[Any]], Floats],
    failed: dict[str, str],
) -> dict[str, Floats]:
    """Metric -> (D,) value of each document, NaN where it has none.

    `summed` turns what lm-eval gives each document into these. Metrics for which it raises get the reason in `failed`.
    """
    found: defaultdict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
    definitions: dict[str, Any] = {}
    for number, (document, answer) in enumerate(zip(documents, answers, strict=True)):
        name = document.definition.task_name
        definitions[name] = document.definition
        for metric, value in _processed(document, answer).items():
            found[metric, name].append((number, value))
    columns = {metric: np.full(len(documents), np.nan) for metric, _ in found}
    for (metric, name), items in found.items():
        aggregation = definitions[name].aggregation().get(metric, mean)  # as lm-eval does for an unknown one
        try:
            columns[metric][[number for number, _ in items]] = summed(aggregation, [value for _, value in items])
        except Exception as error:  # lm-eval's code or a person's: whatever they raise
            failed[metric] = f"{name}: lm-eval's aggregation of {metric} fails: {type(error).__name__}: {error}"
    return {metric: values for metric, values in columns.items() if metric not in failed}


def linearised(aggregation: Aggregation, items: Sequence[Any]) -> Floats:
    """(D,) values whose mean is what the aggregation gives; NaN everywhere if that is no finite number.

    Their standard error is the jackknife's, over at most `PARTS` parts of the documents.
    """
    if aggregation in (mean, nanmean) and all(np.isscalar(item) for item in items):
        return np.array(items, dtype=np.float64)
    whole, count = _number(aggregation, items), len(items)
    part = np.arange(count) % min(count, PARTS)
    if not np.isfinite(whole) or part.max() < 1:
        return np.full(count, whole if np.isfinite(whole) else np.nan)
    parts = range(part.max() + 1)
    left_out = [_number(aggregation, [item for item, p in zip(items, part, strict=True) if p != out]) for out in parts]
    deviation = (np.mean(left_out) - np.array(left_out)) * np.sqrt(part.max() * (count - 1))
    values = deviation[part]
    return np.asarray(whole + np.nan_to_num(values - values.mean()))


def _number(aggregation: Aggregation, items: Sequence[Any]) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(aggregation(items))


def facts_of(name: str, groups: Mapping[str, Any], documents: Sequence[ScoredDocument]) -> OwnMetrics:
    """What records say of lm-eval's metrics besides their values."""
    definitions = list({document.definition.task_name: document.definition for document in documents}.values())
    weighted = getattr(groups.get(name), "aggregate_metric_list", None) or ()
    own_code = any(callable(definition.config.process_results) for definition in definitions)
    kinds = {definition.OUTPUT_TYPE for definition in definitions}
    directions = {metric: up for definition in definitions for metric, up in definition.higher_is_better().items()}
    return OwnMetrics(
        pooled=tuple(config.metric for config in weighted if config.weight_by_size),
        lower=tuple(metric for metric, up in directions.items() if up is False),
        hides="all" if "loglikelihood_rolling" in kinds else "lm-eval's" if own_code else "none",
    )
