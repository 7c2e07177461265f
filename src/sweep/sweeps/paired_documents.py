"""A run's scores document by document, from the records that its journal names, as far as they are still there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweep.analysis.outcomes import HELDOUT, Outcome
from sweep.evaluate import read_records
from sweep.evaluate.metrics import METRICS, choices, values
from sweep.evaluate.record_files import columns_of

Floats = NDArray[np.float64]


def paired(
    run: pd.Series, other: pd.Series | None, outcomes: Sequence[Outcome]
) -> Iterator[tuple[Outcome, tuple[Floats, Floats]]]:
    """Values of each document before and after the run, or after another run and after this one; (D,) each.

    Task by task, so that one task's records are in memory at a time. Each mean is the score. Of held-out loss, a ratio
    of sums, the documents' values are its linear approximation, whose spread is that of the ratio. Tasks with subjects
    or one continuation a document are left out, and what is gone.
    """
    first, second = (run, "before") if other is None else (other, "after"), (run, "after")
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        paths = [path for row, when in (first, second) if (path := _path(row, when, task)) and path.is_file()]
        if len(paths) < 2:
            continue
        columns = [columns_of(read_records(path)) for path in paths]
        if not np.array_equal(columns[0]["document"], columns[1]["document"]):
            continue
        for outcome in (outcome for outcome in outcomes if outcome.task == task):
            one, two = (_values(some, outcome) for some in columns)
            if one is not None and two is not None:
                yield outcome, (one, two)


def _values(columns: dict[str, NDArray[Any]], outcome: Outcome) -> Floats | None:
    if outcome.task.partition(":")[0] == HELDOUT:
        if outcome.metric != "loss":
            return None
        nats, tokens = -columns["log_probability"], columns["tokens"].astype(np.float64)
        loss = nats.sum() / tokens.sum()
        return loss + (nats - loss * tokens) / tokens.mean()
    if outcome.metric not in METRICS or "subject" in columns or "greedy" in columns:
        return None
    return values(choices(columns), outcome.metric)


def _path(row: pd.Series, when: str, task: str) -> Path | None:
    found = json.loads(row["records"] or "{}").get(f"{when}/{task}")
    if found is None:
        return None
    folder = Path(row["sweep"], row["run"])
    copied = folder / "records" / when / f"{task.partition(':')[0]}.parquet"  # as `tracking.reports.fetch` leaves them
    return copied if copied.is_file() else folder / found
