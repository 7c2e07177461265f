"""Records of a task as a table, and its scores: arithmetic on records, never a forward pass.

Every metric is a ratio of two sums over documents (a plain mean where the second counts documents), so one formula
gives every standard error: the delta method's, which for a mean is lm-eval's `mean_stderr`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweep.evaluate.pack import Pack
from sweep.records import Score

HELDOUT = "heldout"
"""The task whose documents have no choices: text to predict."""

SCHEMA = pa.schema(
    [
        ("document", pa.int32()),
        ("choice", pa.int16()),
        ("log_probability", pa.float64()),
        ("tokens", pa.int32()),
        ("characters", pa.int32()),
        ("bytes", pa.int32()),
        ("gold", pa.bool_()),
    ]
)
"""The fields of ChoiceRecord."""

Floats = NDArray[np.float64]
Ratio = tuple[Floats, Floats]


def records_table(pack: Pack, task: str, log_probabilities: Floats) -> pa.Table:
    """The records of one task of a pack, from the log-probabilities of all its requests."""
    if len(log_probabilities) != len(pack.task):
        raise ValueError(f"{task}: {len(log_probabilities)} log-probabilities for a pack of {len(pack.task)} requests")
    mine = pack.task == pack.tasks.index(task)
    columns = {name: log_probabilities if name == "log_probability" else getattr(pack, name) for name in SCHEMA.names}
    return pa.table({name: column[mine] for name, column in columns.items()}, schema=SCHEMA)


def write_records(table: pa.Table, path: Path) -> None:
    """Write a records table as Parquet."""
    pq.write_table(table, path, compression="zstd")


def read_records(path: Path) -> pa.Table:
    """The table that `write_records` wrote; ValueError where its columns are not a records table's."""
    table = pq.read_table(path)
    if not table.schema.equals(SCHEMA):
        raise ValueError(f"{path}: columns {table.schema.names} are not those of records, {SCHEMA.names}")
    return table


def scores(task: str, table: pa.Table) -> tuple[Score, ...]:
    """All metrics of a task.

    Choice tasks: `acc`, the likeliest continuation is the gold one; `acc_norm`, the same per character; both as
    lm-eval has them, the first choice winning a tie. `bits_per_byte` of the gold continuation without the space in
    front of it, averaged over documents (ai2-olmo's convention; OLMES counts that space).
    Held-out text: `loss` in nats a token and `bits_per_byte`, both over all documents together.
    """
    return tuple(_score(task, metric, *ratio) for metric, ratio in _ratios(task, table).items())


def deltas(task: str, before: pa.Table, after: pa.Table) -> tuple[Score, ...]:
    """after - before of every metric, its standard error paired over documents; ValueError for differing documents."""
    same = [name for name in SCHEMA.names if name != "log_probability"]
    if not before.select(same).equals(after.select(same)):
        raise ValueError(f"{task}: the records before and after are not of the same documents and choices")
    first, second = _ratios(task, before), _ratios(task, after)
    return tuple(
        _score(task, metric, second[metric][0] - numerator, denominator)
        for metric, (numerator, denominator) in first.items()
    )


def mean(scores: Iterable[Score], metrics: Mapping[str, str], name: str) -> Score:
    """The plain mean over tasks of the metric named for each, as metric `mean` of a task called `name`.

    Tasks count as independent. ValueError where a score is missing.
    """
    found = {(score.task, score.metric): score for score in scores}
    missing = [f"{task}/{metric}" for task, metric in metrics.items() if (task, metric) not in found]
    if missing or not metrics:
        raise ValueError(f"{name}: no score of {', '.join(missing) or 'any task'}; there are {sorted(found)}")
    chosen = [found[item] for item in metrics.items()]
    return Score(
        task=name,
        metric="mean",
        value=math.fsum(score.value for score in chosen) / len(chosen),
        stderr=math.sqrt(math.fsum(score.stderr**2 for score in chosen)) / len(chosen),
        documents=sum(score.documents for score in chosen),
    )


def _score(task: str, metric: str, numerator: Floats, denominator: Floats) -> Score:
    """Ratio of the sums, with its standard error over documents."""
    documents = len(numerator)
    if documents < 2:
        raise ValueError(f"{task}: {documents} document(s) give no standard error; score at least 2 (tasks.limit)")
    value = numerator.sum() / denominator.sum()
    residual = numerator - value * denominator
    stderr = math.sqrt(documents / (documents - 1) * (residual**2).sum()) / denominator.sum()
    return Score(task=task, metric=metric, value=float(value), stderr=float(stderr), documents=documents)


def _ratios(task: str, table: pa.Table) -> dict[str, Ratio]:
    """Numerator and denominator of each document, by metric."""
    columns = {name: table[name].to_numpy() for name in SCHEMA.names}
    if not np.isfinite(columns["log_probability"]).all():
        raise ValueError(f"{task}: a log-probability is not finite")
    if task == HELDOUT:
        nats = -columns["log_probability"]
        return {
            "loss": (nats, columns["tokens"].astype(np.float64)),
            "bits_per_byte": (nats / math.log(2), columns["bytes"].astype(np.float64)),
        }
    values = _choice_metrics(task, columns)
    return {metric: (value, np.ones(len(value))) for metric, value in values.items()}


def _choice_metrics(task: str, columns: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Value of each document, by metric."""
    documents, index = np.unique(columns["document"], return_inverse=True)
    place = index, columns["choice"]
    shape = len(documents), int(columns["choice"].max()) + 1
    golds = np.bincount(index, weights=columns["gold"])
    if len(np.unique(np.stack(place), axis=1).T) != len(index) or not (golds == 1).all():
        raise ValueError(f"{task}: a document needs each choice once and one of them gold")
    log_probability = np.full(shape, -np.inf)
    per_character = np.full(shape, -np.inf)
    log_probability[place] = columns["log_probability"]
    per_character[place] = columns["log_probability"] / columns["characters"]
    gold = np.empty(len(documents), dtype=np.int64)
    gold[index[columns["gold"]]] = columns["choice"][columns["gold"]]
    bits = -columns["log_probability"] / columns["bytes"] / math.log(2)
    bits_per_byte = np.empty(len(documents))
    bits_per_byte[index[columns["gold"]]] = bits[columns["gold"]]
    return {
        "acc": (log_probability.argmax(1) == gold).astype(np.float64),
        "acc_norm": (per_character.argmax(1) == gold).astype(np.float64),
        "bits_per_byte": bits_per_byte,
    }
