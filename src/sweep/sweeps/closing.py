"""Bringing outcomes before people's eyes: MLflow, as far as it answers, and the table in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sweep.config import RunConfig
from sweep.domain.records import to_json
from sweep.planning.controls import constant_of
from sweep.planning.names import run_folder, run_names
from sweep.sweeps.closing_table import draw, row
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system import ranks
from sweep.system.store import store_at
from sweep.tracking import FILE, read
from sweep.tracking.background import bring_up_to_date
from sweep.tracking.place import mlflow_place


def close(configs: list[RunConfig]) -> None:
    """Bring the sweep's parent up to date and print the table of these points; of several ranks the first does."""
    if ranks.rank() > 0:
        return
    store_at(MULTIRUN).tidy()
    show_sweep(configs, multirun=MULTIRUN.absolute())


def show_sweep(configs: list[RunConfig], *, multirun: Path) -> None:
    """Bring the runs and the parent of each sweep up to date, and print the table of these points."""
    points = {multirun / config.name / run_folder(config): config for config in configs}
    there = {folder: config for folder, config in points.items() if (folder / FILE).is_file()}
    tracked = {folder.parent: config.tracking for folder, config in there.items() if config.tracking.enabled}
    # a run may have ended while MLflow was away, or been killed before MLflow had its outcome
    for folder, tracking in tracked.items():
        if not bring_up_to_date(folder, mlflow_place(multirun, tracking.uri, tracking.experiment)):
            break  # the others would wait for the same MLflow
    names = run_names(list(points.values()))
    journals = {folder: read(folder, steps=False) for folder in there}
    rows = [
        row(config, name, journals.get(folder), _beyond_constant(config, journals.get(folder), multirun))
        for name, (folder, config) in zip(names, points.items(), strict=True)
    ]
    sweeps = dict.fromkeys(config.name for config in configs)
    sys.stdout.write(draw(", ".join(sweeps), rows))
    sys.stdout.write("".join(f"runs      {multirun / name}\n" for name in sweeps))
    if tracked:
        sys.stdout.write("compare   make ui   (or sweep ui)\n")


def _beyond_constant(config: RunConfig, events: Any, multirun: Path) -> list[dict[str, Any]]:
    """Scores of an anneal less those of its constant control in the same sweep, paired; [] where one isn't finished."""
    if events is None or config.anneal.arm != "decay":
        return []
    twin = constant_of(config)
    folder = multirun / twin.name / run_folder(twin)
    if not (folder / FILE).is_file():
        return []
    own = _records(multirun / config.name / run_folder(config), events)
    control = _records(folder, read(folder, steps=False))
    if not own or own.keys() != control.keys():
        return []
    from sweep.run.score import deltas

    return [to_json(score) for score in deltas(control, own, config.tasks)]


def _records(folder: Path, events: Any) -> dict[str, Path]:
    """Task -> the records of a finished run's last scores, as far as the store still has them."""
    if (events.outcome or {}).get("status") != "finished":
        return {}
    after = "records/after/"
    files = {
        name.removeprefix(after): folder / path for name, path in events.artifacts.items() if name.startswith(after)
    }
    return {name.removesuffix(".parquet"): path for name, path in files.items() if path.is_file()}
