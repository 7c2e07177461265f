"""All outcomes of a sweep in one table, a row a run: read from journals, kept beside them in Parquet.

A journal whose size and time of change are those of its row is not read again, so 10,000 finished runs read in about a
second; the table may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sweep.domain.errors import Refusal, unknown
from sweep.planning.names import label
from sweep.system import files
from sweep.system.store import is_alive
from sweep.tracking import FILE, Events, read

log = logging.getLogger(__name__)

TABLE = "outcomes.parquet"
REVISION = b"3"
"""Of the columns; a table of another one is made anew."""
CHUNK = 256
"""Journals held as Python objects at a time."""
TEXTS = ("run", "key", "name", "status", "error", "final_state", "records", "command")
"""Columns of text, besides the params'."""
WHOLES = ("size", "mtime_ns", "position/step", "position/tokens", "cost/updates_done", "cost/tokens")
RUNNING = "running"
PARAM, STDERR, RECORDS = "params/", "stderr/", "records/"
"""Before a param's dotted name, its value as JSON; before a score's column, its standard error; before the
journal's name of a file of records."""


def read_outcomes(sweeps: Sequence[Path]) -> pa.Table:
    """The runs of all these sweeps; column `sweep` is the folder. Refusal where one holds no run.

    Columns: `run` (name of the folder), `key`, `name`, `status` (finished, failed, interrupted, running or
    unreadable), `error`, `params/NAME` (JSON), `WHEN/METRIC/TASK` and `stderr/WHEN/METRIC/TASK`
    for WHEN before, after and delta, `position/…`, `cost/…`, `final_state`, `final_loss`, and `records`, JSON of
    WHEN/TASK -> path of the records from the run's folder.
    """
    tables = []
    for sweep in sweeps:
        table = _current(sweep)
        if not len(table):
            raise Refusal(f"{sweep} holds no run: a sweep's folder has RUN/{FILE} in it")
        tables.append(_with_interrupted(sweep, table).append_column("sweep", pa.array([str(sweep)] * len(table))))
    return pa.concat_tables(tables, promote_options="default")


def _with_interrupted(sweep: Path, table: pa.Table) -> pa.Table:
    statuses = table["status"].to_pylist()
    if RUNNING not in statuses:
        return table
    runs = zip(table["run"].to_pylist(), statuses, strict=True)
    true = ["interrupted" if status == RUNNING and not is_alive(sweep / run) else status for run, status in runs]
    return table.set_column(table.schema.names.index("status"), "status", pa.array(true))


def found_sweep(given: str, multirun: Path) -> Path:
    """The folder of a sweep given as such, or by its name under `multirun`."""
    for folder in (Path(given), multirun / given):
        if folder.is_dir():
            return folder
    there = [entry.name for entry in multirun.iterdir() if any(entry.glob(f"*/{FILE}"))] if multirun.is_dir() else []
    raise Refusal(f"SWEEP={given}: no such folder, and under {multirun} {unknown(given, sorted(there))}")


def frame(table: pa.Table) -> pd.DataFrame:
    """The table with params as values under their dotted names, `null` for None, and `checkpoint`, its name and step.

    Runs of one final state are one, with all their scores: another task set is not another anneal.
    """
    runs = table.to_pandas()
    runs = runs.drop(
        columns=[name for name in runs if runs[name].isna().all() and not name.startswith(PARAM) and name not in TEXTS]
    )
    params = [name for name in runs if name.startswith(PARAM)]
    decoded = {name.removeprefix(PARAM): _decoded(runs[name]) for name in params}
    runs = pd.concat([runs.drop(columns=params), pd.DataFrame(decoded, index=runs.index)], axis=1)
    runs["checkpoint"] = runs["name"].str.partition(" ")[0]
    alone = pd.Series([f"row {i}" for i in range(len(runs))], index=runs.index)
    state = runs["final_state"].fillna(alone)
    again = state.duplicated(keep=False)
    if not again.any():
        return runs
    runs.loc[again, "records"] = [_whole(row) for _, row in runs[again].iterrows()]
    grouped = runs.groupby(state, sort=False)
    merged = grouped.first()
    merged["records"] = grouped["records"].agg(_together)
    return merged.reset_index(drop=True)


def _whole(run: pd.Series) -> str:
    """Its records by paths that don't start from its folder."""
    paths = json.loads(run["records"] or "{}")
    return json.dumps({name: str(Path(run["sweep"], run["run"], path)) for name, path in paths.items()})


def _together(records: pd.Series) -> str | None:
    """The records of several runs as those of one."""
    texts = list(records.dropna())
    if len(texts) < 2:
        return texts[0] if texts else None
    return json.dumps({name: path for text in texts for name, path in json.loads(text).items()})


def _decoded(column: pd.Series) -> pd.Series:
    """Lists stay text; a param that a run doesn't have stays None."""
    known = {text: json.loads(text) for text in column.dropna().unique()}
    shown = {
        text: "null" if value is None else text if isinstance(value, list | dict) else value
        for text, value in known.items()
    }
    return pd.Series([shown.get(text) for text in column], index=column.index, dtype=object)


def _current(sweep: Path) -> pa.Table:
    """The table of one sweep as its journals are now, the file brought up to date."""
    known = _known(sweep / TABLE)
    versions = dict(_journals(sweep))
    kept = _still_true(known, versions)
    fresh = versions.keys() - set(kept["run"].to_pylist())
    if not fresh and len(kept) == len(known):
        return kept
    new = [_table(rows) for rows in _chunks(_rows(sweep, {run: versions[run] for run in sorted(fresh)}))]
    table = pa.concat_tables([kept, *new], promote_options="default").combine_chunks()
    table = table.sort_by("run").replace_schema_metadata({"revision": REVISION})
    _keep(table, sweep / TABLE)
    return table


def _known(path: Path) -> pa.Table:
    with contextlib.suppress(OSError, pa.ArrowException):  # absent or damaged: made anew
        table = pq.read_table(path)
        if (table.schema.metadata or {}).get(b"revision") == REVISION:
            return table
    return _table([])


def _journals(sweep: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    with os.scandir(sweep) as entries:
        for entry in entries:
            if entry.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, files.version(Path(entry.path, FILE))


def _still_true(known: pa.Table, versions: Mapping[str, tuple[int, int]]) -> pa.Table:
    rows = zip(*(known[name].to_pylist() for name in ("run", "size", "mtime_ns")), strict=True)
    same = [versions.get(run) == (size, mtime) for run, size, mtime in rows]
    return known if all(same) else known.filter(pa.array(same, pa.bool_()))


def _rows(sweep: Path, versions: Mapping[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for run, (size, mtime_ns) in versions.items():
        with contextlib.suppress(FileNotFoundError):
            yield {"run": run, "size": size, "mtime_ns": mtime_ns, **_row(read(sweep / run, steps=False))}


def _row(events: Events) -> dict[str, Any]:
    """One run's columns; what was taken down before a failure stays."""
    if not events.attempts:
        return {"status": "unreadable"}
    last, outcome = events.attempts[-1], events.outcome
    found: dict[str, Any] = {"key": last["key"], "name": last["name"], "command": last["command"]}
    found |= {"status": outcome["status"] if outcome else RUNNING, "error": outcome["error"] if outcome else None}
    found |= {f"{PARAM}{name}": json.dumps(value) for name, value in last["params"].items()}
    for when, scores in events.scores.items():
        for score in scores:
            column = f"{when}/{score['metric']}/{score['task']}"
            found |= {column: score["value"], f"{STDERR}{column}": score["stderr"]}
    result = outcome["result"] if outcome else None
    if result is not None:
        found |= {f"position/{name}": result["position"][name] for name in ("step", "tokens", "lr")}
        found |= {f"cost/{name}": value for name, value in result["cost"].items()}
        found |= {"final_state": result["final_state"], "final_loss": result["final_loss"]}
    limit = last["params"].get("tasks.limit")
    records = {
        label(name.removeprefix(RECORDS).removesuffix(".parquet"), limit): path
        for name, path in events.artifacts.items()
        if name.startswith(RECORDS)
    }
    return found | {"records": json.dumps(records)}


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys([*TEXTS, *WHOLES, *(name for row in rows for name in row)])
    return pa.table({name: pa.array([row.get(name) for row in rows], _type(name)) for name in names})


def _type(name: str) -> pa.DataType:
    if name in WHOLES:
        return pa.int64()
    return pa.string() if name in TEXTS or name.startswith(PARAM) else pa.float64()


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _keep(table: pa.Table, path: Path) -> None:
    """Replace the file, whole or not at all; where the folder may not be written to it is read anew next time."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    texts = [name for name in table.schema.names if pa.types.is_string(table.schema.field(name).type)]
    try:
        pq.write_table(table, part, compression="zstd", use_dictionary=texts)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.warning("%s can't be kept: %s", path, error)
