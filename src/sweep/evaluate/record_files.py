"""Records on disk: a Parquet file for each weights and task. A row is a choice, with the fields of `ChoiceRecord`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sweep.evaluate.pack import Likelihoods, Pack

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
"""Columns that every file has."""
MORE = pa.schema(
    [
        ("delimiter", pa.int8()),
        ("unconditional_log_probability", pa.float64()),
        ("greedy", pa.bool_()),
        ("subject", pa.dictionary(pa.int32(), pa.string())),
    ]
)
"""Columns that follow in the files of tasks that need them."""
OWN = "lm_eval/"
"""How the columns begin that hold what lm-eval's own code gives a document: `lm_eval/acc`."""
FACTS = b"own_metrics"


@dataclass(frozen=True, kw_only=True)
class OwnMetrics:
    """What a file of records says of its columns of lm-eval's metrics."""

    pooled: tuple[str, ...] = ()
    """Metrics of a group that lm-eval weighs by the documents of its tasks; others are means over its tasks."""
    lower: tuple[str, ...] = ()
    """Metrics of which a lower value is better."""
    hides: Literal["none", "lm-eval's", "all"] = "none"
    """Which metrics must not be computed from the records by our own formulas: none; those that have lm-eval's names,
    since the task has code of its own for them; or all."""


def records_table(pack: Pack, task: str, likelihoods: Likelihoods) -> pa.Table:
    """The records of one task of a pack, from the likelihoods of all requests of the pack."""
    if len(likelihoods.log_probability) != len(pack.task):
        raise ValueError(
            f"{task}: {len(likelihoods.log_probability)} log-probabilities for a pack of {len(pack.task)} requests"
        )
    of_task = pack.task == pack.tasks.index(task)
    rows = of_task & ~pack.unconditional
    columns: dict[str, Any] = {
        name: getattr(pack, name)[rows] for name in (*SCHEMA.names, "delimiter") if name != "log_probability"
    }
    columns["log_probability"] = likelihoods.log_probability[rows]
    if (without := of_task & pack.unconditional).any():
        columns["unconditional_log_probability"] = likelihoods.log_probability[without]
    if pack.greedy[rows].any():
        assert likelihoods.greedy is not None
        columns["greedy"] = likelihoods.greedy[rows]
    if (subject := pack.subject[rows]).any():
        columns["subject"] = pa.DictionaryArray.from_arrays(pa.array(subject, pa.int32()), list(pack.subjects))
    present = pa.schema([field for field in (*SCHEMA, *MORE) if field.name in columns])
    return pa.table({name: columns[name] for name in present.names}, schema=present)


def write_records(table: pa.Table, path: Path) -> None:
    """Write a records table as Parquet."""
    pq.write_table(table, path, compression="zstd")


def read_records(path: Path) -> pa.Table:
    """The table that `write_records` wrote; ValueError if the file is none, or its columns are not those of records."""
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no file of records: {error}") from error
    known = [field for field in (*SCHEMA, *MORE) if field.name in table.schema.names]
    known += [pa.field(name, pa.float64()) for name in table.schema.names if name.startswith(OWN)]
    if not table.schema.equals(pa.schema(known)) or known[: len(SCHEMA)] != list(SCHEMA):
        raise ValueError(f"{path}: columns {table.schema.names} are not those of records, {SCHEMA.names}")
    return table


def with_facts(table: pa.Table, facts: OwnMetrics) -> pa.Table:
    """The records with these facts, which `own_metrics` reads."""
    return table.replace_schema_metadata({FACTS: json.dumps(dataclasses.asdict(facts))})


def own_metrics(table: pa.Table) -> OwnMetrics | None:
    """What records say of lm-eval's metrics; None if they have none."""
    text = (table.schema.metadata or {}).get(FACTS)
    if text is None:
        return None
    facts = json.loads(text)
    return OwnMetrics(pooled=tuple(facts["pooled"]), lower=tuple(facts["lower"]), hides=facts["hides"])


def columns_of(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The columns as arrays. In a file from before the column `delimiter` existed, it is a space for every choice."""
    columns = {name: _array(table[name]) for name in table.schema.names}
    columns.setdefault("delimiter", np.ones(len(table), dtype=np.int8))
    return columns


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    if not pa.types.is_dictionary(column.type):
        return column.to_numpy()
    return column.cast(pa.string()).to_numpy(zero_copy_only=False)
