"""The record of one run: its journal, written event by event, and MLflow, which follows the journal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sweep.config import RunConfig, tree
from sweep.domain.records import RunResult, Score, StepRecord, to_json
from sweep.planning.names import Identity
from sweep.run.prepare import Prepared
from sweep.run.provenance import attempt, inputs
from sweep.system.hardware import watched
from sweep.system.lease import Lease, LeaseLost
from sweep.system.progress import reporting
from sweep.system.ranks import Ranks
from sweep.system.store import Store
from sweep.tracking import Journal
from sweep.tracking.background import followed
from sweep.tracking.place import mlflow_place


class Record:
    """The journal of a run, in its own folder; LeaseLost once another process has taken over the run."""

    def __init__(self, folder: Path, journal: Journal, lease: Lease) -> None:
        self._folder, self._journal, self._lease = folder, journal, lease
        self._last_step = 0

    def inputs(self, store: Store, identity: Identity, prepared: Prepared) -> None:
        """What the run starts from."""
        if prepared.data:
            (self._folder / "data.json").write_text(json.dumps(prepared.data, indent=1) + "\n")
            self._journal.write("artifact", name="data.json", path="data.json")
        self._journal.write("inputs", **inputs(store, identity.checkpoint, prepared))

    def scores(self, when: str, scores: tuple[Score, ...]) -> None:
        """The scores "before" or "after" the anneal, or their "delta"."""
        self._lease.check()
        self._journal.write("scores", when=when, scores=[to_json(score) for score in scores])

    def step(self, step: StepRecord) -> None:
        """One update; those that the journal has from this start already are skipped."""
        if step.update > self._last_step:
            self._lease.check()
            self._journal.write("step", **to_json(step))
            self._last_step = step.update

    def files(self, when: str, files: Mapping[str, Path]) -> None:
        """Where the records of each task are: relative to the run's folder if they can be moved together with it."""
        for task, file in files.items():
            movable = file.is_relative_to(self._folder.parents[1])
            path = os.path.relpath(file, self._folder) if movable else str(file)
            self._journal.write("artifact", name=f"records/{when}/{task}.parquet", path=path)

    def result(self, result: RunResult) -> None:
        """The outcome of a finished run."""
        self._journal.write("outcome", status="finished", error=None, result=to_json(result))

    def load(self, sample: dict[str, float]) -> None:
        """How busy the machine is."""
        self._lease.check()
        self._journal.write("system", values=sample)


@contextmanager
def recorded(
    config: RunConfig, identity: Identity, folder: Path, *, command: str, lease: Lease, ranks: Ranks
) -> Iterator[Record]:
    """The record of a run within the block; an exception that leaves the block is recorded as its outcome."""
    tracking, multirun = config.tracking, folder.parents[1]
    place = mlflow_place(multirun, tracking.uri, tracking.experiment)
    with reporting(folder, lease.token), Journal(folder) as journal:
        record = Record(folder, journal, lease)
        journal.write("attempt", **attempt(identity, tree(config), command))
        with followed(folder, place) if tracking.enabled else nullcontext():
            try:
                with watched(record.load):
                    yield record
            except LeaseLost:
                raise  # another process writes this journal now
            except BaseException as error:
                status, cause = "failed" if isinstance(error, Exception) else "interrupted", ranks.blamed(error)
                journal.write("outcome", status=status, error=f"{type(cause).__name__}: {cause}", result=None)
                raise
