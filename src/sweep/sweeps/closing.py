"""The end of a sweep: MLflow is brought up to date, and the table of its runs is printed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config import RunConfig, Tasks
from sweep.domain.records import to_json
from sweep.planning.controls import Point, constant_of
from sweep.planning.names import label, run_key, run_names
from sweep.sweeps.closing_table import column, draw, measures, row
from sweep.sweeps.run_folders import MULTIRUN, folder_of
from sweep.system import ranks
from sweep.system.store import store_at, verified
from sweep.system.terminal import show
from sweep.tracking.background import bring_up_to_date
from sweep.tracking.place import mlflow_place

log = logging.getLogger(__name__)

Outcome = Mapping[str, Any]
"""A run's row of the sweep's table of outcomes."""
AFTER = "after/"


def close(runs: Sequence[Point]) -> None:
    """Update the sweep in MLflow and print the table of these runs; only the first of several ranks does.

    It can't fail what the runs have done: the exit code is theirs alone.
    """
    if ranks.rank() > 0:
        return
    try:
        _close({folder_of(run.place).absolute(): run for run in runs})
    except Exception as error:  # whatever it is, the runs are finished or not without it
        log.error("the table can't be shown (%s: %s); the same command shows it again", type(error).__name__, error)


def _close(runs: Mapping[Path, Point]) -> None:
    store_at(MULTIRUN).tidy()
    configs = {folder: run.config for folder, run in runs.items()}
    multirun, sweeps = MULTIRUN.absolute(), [*dict.fromkeys(folder.parent for folder in configs)]
    of_sweeps = {sweep: _outcomes(sweep, _columns(config.tasks for config in configs.values())) for sweep in sweeps}
    outcomes = {sweep / folder: outcome for sweep, rows in of_sweeps.items() for folder, outcome in rows.items()}
    for folder in configs.keys() & outcomes.keys():
        if lost := outcomes[folder]["lost"]:
            log.warning("%s: %s", folder, lost)
    tracked = {f.parent: c.tracking for f, c in configs.items() if c.tracking.enabled and f in outcomes}
    # a run may have ended while MLflow was away, or been killed before MLflow had its outcome
    for sweep, tracking in tracked.items():
        if not bring_up_to_date(sweep, mlflow_place(multirun, tracking.uri, tracking.experiment)):
            break  # each more would cost the same wait
    constants = {
        (folder.parent, outcome["run"]): folder for folder, outcome in outcomes.items() if _is_constant(outcome)
    }
    beyond = {folder: _beyond_control(folder, config, outcomes, constants) for folder, config in configs.items()}
    names = zip(run_names([*configs.values()], [run.key for run in runs.values()]), configs.items(), strict=True)
    rows = [
        row(config.tasks, config.model.parameters, name, outcomes.get(folder), beyond[folder])
        for name, (folder, config) in names
    ]
    show(draw(", ".join(sweep.name for sweep in sweeps), rows))
    show("".join(f"runs      {sweep}\n" for sweep in sweeps))
    if tracked:
        show("compare   make ui   (or sweep ui)\n")


def _outcomes(sweep: Path, scores: Iterable[str]) -> dict[str, Outcome]:
    """Name of a run's folder -> its outcome with these columns of scores, for all runs of a sweep that have begun."""
    from sweep.sweeps.outcome_table import current_outcomes  # imports pyarrow

    wanted = ("folder", "run", "status", "lost", "records", "params/arm", "cost/tokens", "cost/seconds", *scores)
    table = current_outcomes(sweep)
    return {row["folder"]: row for row in table.select([n for n in wanted if n in table.column_names]).to_pylist()}


def _columns(chosen: Iterable[Tasks]) -> set[str]:
    """The columns of the scores that the table shows, and of their standard errors."""
    different = {id(tasks): tasks for tasks in chosen}.values()
    columns = {
        column(of, when, tasks.limit)
        for tasks in different
        for of in measures(tasks)
        for when in ("before", "after", "delta")
    }
    return columns | {f"stderr/{name}" for name in columns}


def _is_constant(outcome: Outcome) -> bool:
    return outcome.get("params/arm") == '"constant"' and outcome["status"] == "finished"


def _beyond_control(
    folder: Path,
    config: RunConfig,
    outcomes: Mapping[Path, Outcome],
    constants: Mapping[tuple[Path, str], Path],
) -> list[dict[str, Any]]:
    """Scores of an anneal less those of its matched control, paired; [] if one of the two isn't finished."""
    outcome = outcomes.get(folder)
    if not constants or outcome is None or outcome["status"] != "finished" or config.anneal.arm != "decay":
        return []
    control = constants.get((folder.parent, run_key(constant_of(config))))
    if control is None:
        return []
    own, of_control = (_records(f, outcomes[f], config.tasks.limit) for f in (folder, control))
    if not own or own.keys() != of_control.keys():
        return []
    from sweep.run.score import deltas

    return [to_json(score) for score in deltas(of_control, own, config.tasks)]


def _records(folder: Path, outcome: Outcome, limit: int | None) -> dict[str, Path]:
    """Task -> the file of a finished run's last records, for the tasks whose file the store still has undamaged."""
    after = {name: path for name, path in json.loads(outcome["records"]).items() if name.startswith(AFTER)}
    ending = label("", limit)
    sound = {n.removeprefix(AFTER).removesuffix(ending): verified(folder / path) for n, path in after.items()}
    return {task: file for task, file in sound.items() if file is not None}
