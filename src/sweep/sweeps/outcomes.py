"""The outcomes of a sweep as a data frame, in which runs, checkpoints and tasks are told apart by their digests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sweep.domain.errors import Refusal
from sweep.planning.names import KEY_CHARS, is_of_checkpoint, told_apart
from sweep.sweeps.outcome_table import PARAM, TEXTS, UNREADABLE
from sweep.sweeps.task_variants import with_tasks_apart


def readable(outcomes: pa.Table) -> tuple[pa.Table, list[str]]:
    """The runs whose journal can be read, and sentences on what can't be; Refusal if there is no such run."""
    rows = list(zip(*(outcomes[name].to_pylist() for name in ("sweep", "folder", "status", "lost")), strict=True))
    left_out = [
        f"{Path(sweep, run)}: its journal can't be read; the command that made the run makes it again."
        for sweep, run, status, _ in rows
        if status == UNREADABLE
    ]
    if len(left_out) == len(rows):
        raise Refusal("\n".join(left_out))
    left_out += [f"{Path(sweep, run)}: {lost}." for sweep, run, status, lost in rows if status != UNREADABLE and lost]
    return outcomes.filter(pc.not_equal(outcomes["status"], UNREADABLE)), left_out


def frame(table: pa.Table) -> pd.DataFrame:
    """The table with params as values under their dotted names, `null` for None.

    Runs with the same final state become one row with the scores of all, because another task set is not another
    anneal. Tasks of one name that were asked differently are told apart; so are `name` and `checkpoint_name`, each of
    which belongs to one digest. `keys` are those of all runs of a row.
    """
    runs = with_tasks_apart(table.to_pandas())
    runs = runs.drop(
        columns=[name for name in runs if runs[name].isna().all() and not name.startswith(PARAM) and name not in TEXTS]
    )
    params = [name for name in runs if name.startswith(PARAM)]
    values = {name.removeprefix(PARAM): _decoded(runs[name]) for name in params}
    runs = pd.concat([runs.drop(columns=params), pd.DataFrame(values, index=runs.index)], axis=1)
    return _with_names_apart(_merged(runs.assign(keys=runs["run"])), [*values])


def frames(table: pa.Table, sweeps: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """The runs of each sweep, as `frame` gives them, by its name, or by its folder if names are the same."""
    same = len({sweep.name for sweep in sweeps}) < len(sweeps)
    return {
        str(sweep) if same else sweep.name: frame(table.filter(pc.equal(table["sweep"], str(sweep))))
        for sweep in sweeps
    }


def digest_axes(runs: pd.DataFrame, params: Sequence[str]) -> list[str]:
    """The digests, as `frame` names their columns, in which runs differ whose params but the seed are the same.

    This is so if a file has another content under its old name.
    """
    names = [name for name in params if name in runs and name != "seed"]
    same = runs.groupby(names, sort=False, dropna=False) if names else runs.groupby(lambda _: 0)
    return [name for name in ("checkpoint.digest", "data.digest") if (same[name].nunique() > 1).any()]


def _merged(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each final state; scores made with other threads or on another device stay apart."""
    unique = pd.Series([f"row {i}" for i in range(len(runs))], index=runs.index)
    state = runs["final_state"].fillna(unique)
    for numerics in (name for name in ("compute.threads", "compute.device") if name in runs):
        state = state + " " + runs[numerics].astype(str)
    shared = state.duplicated(keep=False)
    if not shared.any():
        return runs
    runs.loc[shared, "records"] = [_with_absolute_paths(row) for _, row in runs[shared].iterrows()]
    grouped = runs.groupby(state, sort=False)
    merged = grouped.first()
    merged["records"] = grouped["records"].agg(_joined)
    merged["keys"] = grouped["keys"].agg(" ".join)
    return merged.reset_index(drop=True)


def _with_names_apart(runs: pd.DataFrame, params: Sequence[str]) -> pd.DataFrame:
    """The runs with names that belong to one run, and names of checkpoints that belong to one checkpoint."""
    names = runs["name"].fillna(runs["folder"])
    alike = names.duplicated(keep=False)
    choices = iter(runs.loc[alike, list(params)].to_dict("records"))
    names = told_apart(list(names), [next(choices) if same else {} for same in alike], list(runs["run"]))
    of_checkpoint = [name for name in params if is_of_checkpoint(name)]
    first = runs.drop_duplicates("checkpoint")
    labels = told_apart(
        [str(name) for name in first["checkpoint_name"]],
        first[of_checkpoint].to_dict("records"),
        [str(key) for key in first["checkpoint"]],
    )
    by_digest = dict(zip(first["checkpoint"], labels, strict=True))
    return runs.assign(
        name=names,
        checkpoint_name=runs["checkpoint"].map(by_digest),
        **{"checkpoint.digest": runs["checkpoint"].str[:KEY_CHARS]},
    )


def _with_absolute_paths(run: pd.Series) -> str:
    """The records of a run, by paths that don't depend on its folder."""
    paths = json.loads(run["records"] or "{}")
    return json.dumps({name: str(Path(run["sweep"], run["folder"], path)) for name, path in paths.items()})


def _joined(records: pd.Series) -> str | None:
    """The records of several runs as those of one."""
    texts = list(records.dropna())
    if len(texts) < 2:
        return texts[0] if texts else None
    return json.dumps({name: path for text in texts for name, path in json.loads(text).items()})


def _decoded(column: pd.Series) -> pd.Series:
    """The values of a param. Lists stay text, and a run without this param keeps None."""
    values = {text: json.loads(text) for text in column.dropna().unique()}
    values |= {text: text for text, value in values.items() if isinstance(value, list | dict)}
    values |= {text: "null" for text, value in values.items() if value is None}
    return pd.Series([values.get(text) for text in column], index=column.index, dtype=object)
