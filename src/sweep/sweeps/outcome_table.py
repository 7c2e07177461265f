"""The outcomes of a sweep as one table with a row for each run, read from journals and kept beside them in Parquet.

A journal is read again only if its size or its time of change differs from its row, so 10,000 finished runs are read in
about a second. The table may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.planning.names import is_of_checkpoint, label
from sweep.system import files
from sweep.system.lease import is_alive
from sweep.system.sealed import read_sealed, write_sealed
from sweep.tracking import FILE, Events, lost_lines, params_of, read
from sweep.tracking.journal import damage

log = logging.getLogger(__name__)

TABLE, SUM = "outcomes.parquet", ".outcomes.json"
"""The table, and the file that holds its digest and its revision: a damaged table is never read."""
REVISION = b"7"
"""The version of the columns; a table with another one is made again."""
CHUNK = 256
"""Journals that are held as Python objects at a time."""
DIGESTS = ("run", "checkpoint", "data.digest", "tasks.digest")
"""Columns that tell runs, checkpoints, data and task sets apart."""
TEXTS = (
    *(*DIGESTS, "folder", "name", "checkpoint_name", "task_digests", "status"),
    *("error", "final_state", "records", "command", "lost"),
)
"""Columns of text, besides the params."""
WHOLES = ("size", "mtime_ns", "damaged", "position/step", "position/tokens", "cost/updates_done", "cost/tokens")
PARAM = "params/"
RUNNING, UNREADABLE = "running", "unreadable"
STDERR, RECORDS = "stderr/", "records/"
"""Prefixes: of a column with a score's standard error, and of the name of a file of records in the journal. Columns of
params begin with PARAM, and hold JSON."""


@dataclass(frozen=True, kw_only=True)
class FinishedJournal:
    """What the table knows of a finished run whose journal is as it was when it was read, and was whole then."""

    folder: str
    """The name of the run's folder."""
    key: str
    state: str
    """Key of its last state in the store."""
    records: tuple[str, ...]
    """Paths of the files of records, from the run's folder."""


def finished_journals(sweep: Path, *, renew: bool) -> Iterator[FinishedJournal]:
    """The finished runs of a sweep's table, as far as their journals haven't changed since.

    The table is brought up to date first if `renew`, and else nothing is written.
    """
    if not (sweep.is_dir() if renew else (sweep / TABLE).is_file()):
        return
    names = ("folder", "run", "size", "mtime_ns", "damaged", "status", "final_state", "records")
    stored = _current(sweep) if renew else _stored(sweep / TABLE)
    versions = None if renew else dict(_journals(sweep))
    rows = zip(*(stored[name].to_pylist() for name in names), strict=True)
    for folder, key, size, mtime_ns, damaged, status, state, records in rows:
        if status == "finished" and damaged == 0 and (versions is None or versions.get(folder) == (size, mtime_ns)):
            paths = tuple(json.loads(records).values())
            yield FinishedJournal(folder=folder, key=key, state=state, records=paths)


def read_outcomes(sweeps: Sequence[Path]) -> pa.Table:
    """The runs of all these sweeps; column `sweep` is the folder. Raises Refusal if a folder holds no run.

    Columns: the digests `run` (its key), `checkpoint`, `data.digest` and `tasks.digest`, by which runs are grouped and
    joined; the labels `folder`, `name` and `checkpoint_name`; `status` (finished, failed, interrupted, running or
    unreadable), `error`, `params/NAME` (JSON), `WHEN/METRIC/TASK` and `stderr/WHEN/METRIC/TASK` for WHEN before, after
    and delta, `position/…`, `cost/…`, `final_state`, `final_loss`, `task_digests`, JSON of TASK -> digest, `records`,
    JSON of WHEN/TASK -> path of the records from the run's folder, and `lost`, which lines of the journal are lost, in
    words. `damaged` counts the damaged lines of the last attempt.
    """
    tables = []
    for sweep in sweeps:
        table = current_outcomes(sweep)
        if not len(table):
            raise Refusal(f"{sweep} holds no run: a sweep's folder has RUN/{FILE} in it")
        tables.append(table.append_column("sweep", pa.array([str(sweep)] * len(table))))
    return pa.concat_tables(tables, promote_options="default")


def _with_interrupted(sweep: Path, table: pa.Table) -> pa.Table:
    """The table in which a run without an outcome is interrupted if no process is at work on it."""
    statuses = table["status"].to_pylist()
    if RUNNING not in statuses:
        return table
    runs = zip(table["folder"].to_pylist(), statuses, strict=True)
    true = ["interrupted" if status == RUNNING and not is_alive(sweep / run) else status for run, status in runs]
    return table.set_column(table.schema.names.index("status"), "status", pa.array(true))


def current_outcomes(sweep: Path) -> pa.Table:
    """`read_outcomes` of one sweep without the column `sweep`, which may be empty; brings the file up to date."""
    return _with_interrupted(sweep, _current(sweep)) if sweep.is_dir() else _table([])


def _current(sweep: Path) -> pa.Table:
    stored = _stored(sweep / TABLE)
    versions = dict(_journals(sweep))
    rows = zip(*(stored[name].to_pylist() for name in ("folder", "size", "mtime_ns")), strict=True)
    unchanged = {run: versions.get(run) == (size, mtime_ns) for run, size, mtime_ns in rows}
    fresh = sorted(run for run in versions if not unchanged.get(run))
    if not fresh and all(unchanged.values()):
        return stored
    kept = stored.filter(pa.array(unchanged.values(), pa.bool_()))
    chunks = (fresh[start : start + CHUNK] for start in range(0, len(fresh), CHUNK))
    new = [_table([*_rows(sweep, {run: versions[run] for run in chunk})]) for chunk in chunks]
    table = pa.concat_tables([kept, *new], promote_options="default").combine_chunks()
    table = table.sort_by("folder").replace_schema_metadata({"revision": REVISION})
    _store(table, sweep / TABLE)
    return table


def _stored(path: Path) -> pa.Table:
    """The table in the file; an empty one if the file is absent, damaged or of another revision."""
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        return _table([])
    except OSError as error:
        log.warning("%s can't be read: %s; made again from the journals", path, error)
        return _table([])
    made_of = read_sealed(path.with_name(SUM), remedy="the table is made again from the journals")
    if made_of == {"sha256": hashlib.sha256(content).hexdigest(), "revision": REVISION.decode()}:
        return pq.ParquetFile(io.BytesIO(content)).read()
    log.info("%s is damaged, or of another version: made again from the journals", path)
    return _table([])


def _store(table: pa.Table, path: Path) -> None:
    """Replace the file whole or not at all; warn if the folder is read-only, as journals are then read every time."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    texts = [name for name in table.schema.names if pa.types.is_string(table.schema.field(name).type)]
    try:
        if path.is_dir():
            log.warning("%s is a folder where a file belongs: set aside as %s", path, files.set_aside(path))
        pq.write_table(table, part, compression="zstd", use_dictionary=texts)
        write_sealed(path.with_name(SUM), {"sha256": files.file_digest(part), "revision": REVISION.decode()})
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        log.warning("%s can't be written: %s", path, error)


def _journals(sweep: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """The runs that have a journal, with its size and time of change."""
    with os.scandir(sweep) as entries:
        for entry in entries:
            if entry.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, files.version(Path(f"{entry.path}/{FILE}"))


def _rows(sweep: Path, versions: Mapping[str, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for run, (size, mtime_ns) in versions.items():
        with contextlib.suppress(FileNotFoundError):
            events = read(sweep / run, steps=False)
            version = {"size": size, "mtime_ns": mtime_ns, "damaged": len(damage(sweep / run))}
            yield {"run": run, "folder": run, **version, **_row(events)}


def _row(events: Events) -> dict[str, Any]:
    """The columns of one run, with what was recorded before a failure."""
    if not events.attempts:
        return {"status": UNREADABLE, "lost": lost_lines(events) if events.lost else None}
    last, outcome = events.attempts[-1], events.outcome
    params = params_of(last)
    row: dict[str, Any] = {"run": last["key"], "name": last["name"], "command": last["command"]}
    row |= _inputs(events, params)
    row |= {"status": outcome["status"] if outcome else RUNNING, "error": outcome["error"] if outcome else None}
    row |= {f"{PARAM}{name}": json.dumps(value) for name, value in params.items()}
    for when, scores in events.scores.items():
        for score in scores:
            column = f"{when}/{score['metric']}/{score['task']}"
            row |= {column: score["value"], f"{STDERR}{column}": score["stderr"]}
    if outcome and (result := outcome["result"]) is not None:
        row |= {f"position/{name}": result["position"][name] for name in ("step", "tokens", "lr")}
        row |= {f"cost/{name}": value for name, value in result["cost"].items()}
        row |= {"final_state": result["final_state"], "final_loss": result["final_loss"]}
    limit = params.get("tasks.limit")
    records = {
        label(name.removeprefix(RECORDS).removesuffix(".parquet"), limit): path
        for name, path in events.artifacts.items()
        if name.startswith(RECORDS)
    }
    return row | {"records": json.dumps(records), "lost": lost_lines(events) if events.lost else None}


def _inputs(events: Events, params: Mapping[str, Any]) -> dict[str, str | None]:
    """Digests and labels of what the run starts from; of a run that has recorded none, as its params choose them."""
    chosen = {name: value for name, value in params.items() if is_of_checkpoint(name)}
    asked = {name: value for name, value in params.items() if f"{name}.".startswith("tasks.")}
    row: dict[str, str | None] = {
        "checkpoint": digest("as chosen", chosen),
        "checkpoint_name": events.attempts[-1]["name"].partition(" ")[0],
        "tasks.digest": digest("as chosen", asked),
    }
    if events.inputs is None:
        return row
    checkpoint, data, tasks = (events.inputs.get(name) for name in ("checkpoint", "data", "tasks"))
    if checkpoint:
        row |= {"checkpoint": checkpoint["digest"], "checkpoint_name": checkpoint["name"]}
    if data:
        digests = [source["digest"] for source in data]
        row["data.digest"] = digests[0] if len(digests) == 1 else digest("mixture", digests)
    if tasks:  # older journals have none
        row |= {"tasks.digest": digest("tasks", tasks), "task_digests": json.dumps(tasks)}
    return row


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys([*TEXTS, *WHOLES, *(name for row in rows for name in row)])
    return pa.table({name: pa.array([row.get(name) for row in rows], _type(name)) for name in names})


def _type(name: str) -> pa.DataType:
    if name in WHOLES:
        return pa.int64()
    return pa.string() if name in TEXTS or name.startswith(PARAM) else pa.float64()
