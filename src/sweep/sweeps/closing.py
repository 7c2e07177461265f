"""The end of a sweep: MLflow is brought up to date, and the table of its runs is printed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.config import RunConfig
from sweep.domain.records import to_json
from sweep.planning.controls import Point, constant_of
from sweep.planning.names import run_identity, run_names
from sweep.sweeps.closing_table import draw, row
from sweep.sweeps.run_folders import MULTIRUN, expected_folder, folder_of
from sweep.system import ranks
from sweep.system.lease import is_alive
from sweep.system.store import store_at, verified
from sweep.system.terminal import show
from sweep.tracking import FILE, lost_lines, read
from sweep.tracking.background import bring_up_to_date
from sweep.tracking.place import mlflow_place

log = logging.getLogger(__name__)


def close(runs: Sequence[Point]) -> None:
    """Update the sweep in MLflow and print the table of these runs; only the first of several ranks does.

    It can't fail what the runs have done: the exit code is theirs alone.
    """
    if ranks.rank() > 0:
        return
    try:
        _close(runs)
    except Exception as error:  # whatever it is, the runs are finished or not without it
        log.error("the table can't be shown (%s: %s); the same command shows it again", type(error).__name__, error)


def _close(runs: Sequence[Point]) -> None:
    store_at(MULTIRUN).tidy()
    multirun = MULTIRUN.absolute()
    by_folder = {folder_of(run.config, run.key).absolute(): run.config for run in runs}
    journals = {folder: read(folder, steps=False) for folder in by_folder if (folder / FILE).is_file()}
    tracked = {folder.parent: by_folder[folder].tracking for folder in journals if by_folder[folder].tracking.enabled}
    for folder, events in journals.items():
        if events.lost:
            log.warning("%s: %s", folder, lost_lines(events))
    # a run may have ended while MLflow was away, or been killed before MLflow had its outcome
    for sweep, tracking in tracked.items():
        if not bring_up_to_date(sweep, mlflow_place(multirun, tracking.uri, tracking.experiment)):
            break  # each more would cost the same wait
    rows = [
        row(config, name, journals.get(folder), _beyond_control(config, folder, journals.get(folder)),
            is_running=is_alive(folder))
        for name, (folder, config) in zip(run_names(list(by_folder.values())), by_folder.items(), strict=True)
    ]  # fmt: skip
    sweeps = dict.fromkeys(run.config.name for run in runs)
    show(draw(", ".join(sweeps), rows))
    show("".join(f"runs      {multirun / name}\n" for name in sweeps))
    if tracked:
        show("compare   make ui   (or sweep ui)\n")


def _beyond_control(config: RunConfig, folder: Path, events: Any) -> list[dict[str, Any]]:
    """Scores of an anneal less those of its matched control, paired; [] if one of the two isn't finished."""
    if events is None or config.anneal.arm != "decay":
        return []
    control = expected_folder(run_identity(constant_of(config))).absolute()
    if not (control / FILE).is_file():
        return []
    own, of_control = _records(folder, events), _records(control, read(control, steps=False))
    if not own or own.keys() != of_control.keys():
        return []
    from sweep.run.score import deltas

    return [to_json(score) for score in deltas(of_control, own, config.tasks)]


def _records(folder: Path, events: Any) -> dict[str, Path]:
    """Task -> the file of a finished run's last records, for the tasks whose file the store still has undamaged."""
    if (events.outcome or {}).get("status") != "finished":
        return {}
    after = "records/after/"
    files = {
        name.removeprefix(after): folder / path for name, path in events.artifacts.items() if name.startswith(after)
    }
    sound = {name.removesuffix(".parquet"): verified(path) for name, path in files.items()}
    return {task: file for task, file in sound.items() if file is not None}
