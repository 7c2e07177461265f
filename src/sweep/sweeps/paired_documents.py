"""A run's scores document by document, from the records that its journal names, if they still exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.analysis.factors import Floats
from sweep.analysis.gains import Pair
from sweep.analysis.outcomes import HELDOUT, Outcome
from sweep.evaluate import read_records
from sweep.evaluate.metrics import METRICS, choices, values
from sweep.evaluate.record_files import OWN, columns_of
from sweep.evaluate.scores import has_choices
from sweep.system.store import MANIFEST, verified


def paired_documents(
    run: pd.Series, other: pd.Series | None, outcomes: Sequence[Outcome]
) -> Iterator[tuple[Outcome, Pair]]:
    """The values (D,) of documents before and after the run, or after another run and after this one.

    The mean over documents is the score. Held-out loss is a ratio of sums, so its documents have the values of the
    linear approximation, whose spread is that of the ratio. One task's records are in memory at a time. Tasks with
    subjects, with one continuation a document, or without records are left out.
    """
    first = (run, "before") if other is None else (other, "after")
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        paths = [_records_path(row, when, task) for row, when in (first, (run, "after"))]
        files = [verified(path) for path in paths if path is not None]
        both = [columns_of(read_records(file)) for file in files if file is not None]
        if len(both) < 2 or not np.array_equal(both[0]["document"], both[1]["document"]):
            continue
        for outcome in (outcome for outcome in outcomes if outcome.task == task):
            reference, score = (_values(columns, outcome) for columns in both)
            if reference is not None and score is not None:
                yield outcome, (reference, score)


def _values(columns: dict[str, NDArray[Any]], outcome: Outcome) -> Floats | None:
    """The value of each document; None if the records don't give this outcome."""
    if outcome.plain_task == HELDOUT:
        if outcome.metric != "loss":
            return None
        nats, tokens = -columns["log_probability"], columns["tokens"].astype(np.float64)
        loss = nats.sum() / tokens.sum()
        return loss + (nats - loss * tokens) / tokens.mean()
    if "subject" in columns:
        return None
    if (own := columns.get(f"{OWN}{outcome.metric}")) is not None:
        _, first_row = np.unique(columns["document"], return_index=True)
        return None if np.isnan(own).any() else own[first_row]
    if outcome.metric not in METRICS or not has_choices(columns):
        return None
    return values(choices(columns), outcome.metric)


def _records_path(row: pd.Series, when: str, task: str) -> Path | None:
    """Where the records of a task are; None if the journal doesn't name them."""
    path = json.loads(row["records"] or "{}").get(f"{when}/{task}")
    if path is None:
        return None
    folder = Path(row["sweep"], row["folder"])
    fetched = folder / "records" / when / f"{task.partition(':')[0]}.parquet"  # by `tracking.reports.fetch`
    return fetched if (fetched.parent / MANIFEST).is_file() else folder / path


def without_records(runs: pd.DataFrame) -> list[str]:
    """Names of the runs of which a file of records is gone: it was freed, or set aside as damaged."""
    gone = []
    for _, run in runs.iterrows():
        named = [name.partition("/") for name in json.loads(run["records"] or "{}")]
        paths = [_records_path(run, when, task) for when, _, task in named]
        if any(path is None or not (path.is_file() and (path.parent / MANIFEST).is_file()) for path in paths):
            gone.append(run["name"])
    return gone
