"""Brings MLflow up to date with a run's journal, at any time, from any process, and twice without harm.

In MLflow 3.17 a metric point is run, key, timestamp, step and value; params never change; tags may.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag

from sweep.system.store import MANIFEST, verified
from sweep.tracking import mlflow_inputs, mlflow_values
from sweep.tracking.connection import BEGAN, LOCK, PARENT, PATIENT_S, Connection, as_begun, own
from sweep.tracking.events import Events, milliseconds, run_names
from sweep.tracking.journal import FILE, read
from sweep.tracking.log_batches import Batch, batches
from sweep.tracking.note import run_note, sweep_note
from sweep.tracking.opening import opening_note
from sweep.tracking.sync_state import Memory, recall

REVISION = 2
"""Number to raise when the same journal gives other values: what was sent by an older one is looked at again."""


@dataclass(frozen=True)
class Known:
    """What has been asked and read of a run already because its whole sweep is projected."""

    runs: list[Run]
    """The MLflow runs that stand for it; usually one, or none."""
    parent_id: str
    """The MLflow run that stands for the sweep."""
    summary: Events


def project(
    run_folder: Path, to: Connection, *, alive: bool, known: Known | None = None, within_s: float = PATIENT_S
) -> str:
    """Bring MLflow up to date with one run's journal; the MLflow run's id.

    A run without an outcome is RUNNING if it is `alive`, that is if a process is working on it, and KILLED if not.
    Raises TimeoutError if `within_s` seconds are not enough; the next call goes on from there.
    """
    deadline = time.monotonic() + within_s
    with FileLock(run_folder / LOCK, timeout=within_s):
        memory = recall(run_folder, server=to.server, experiment=to.experiment)
        version = f"{REVISION}:{_fingerprint(run_folder / FILE)}"
        if known is not None and _is_settled(known, memory, version, alive=alive):
            return known.runs[0].info.run_id
        events = read(run_folder)
        if not events.attempts:
            raise ValueError(f"{run_folder / FILE} holds no attempt that can be read")
        note, status = run_note(events, run_folder), mlflow_values.status(events, alive=alive)
        parent_id = _parent_id(run_folder.parent, to, events, within_s) if known is None else known.parent_id
        tags = mlflow_values.tags(events) | {PARENT: parent_id}
        tags["mlflow.note.content"] = mlflow_values.fit(note, mlflow_values.TAG_CHARS, "the artifact note.md")
        run = to.point(events, tags, known=_usable(known, memory), prefer=memory.run_id)
        if not memory.holds(run.info.run_id, run.info.status):
            memory = Memory(to.server, to.experiment, run.info.run_id, _last_update(to, run))
            memory.save(run_folder)
        if (begun := as_begun(events, run)).is_cut:
            tags[BEGAN] = str(milliseconds(events.attempts[0]))
        delivery = _Delivery(run_folder, begun, to, run, memory, deadline)
        delivery.send_values(tags)
        _settle(to, run, status, events.outcome)  # before the files, for which a server may have no place
        mlflow_inputs.send_inputs(to.client, run, events)
        delivery.send_files(note)
        mlflow_inputs.register(to.client, run, events)
        memory.settled = f"{status} {version}"
        memory.save(run_folder)
        return run.info.run_id


@dataclass(frozen=True)
class _Delivery:
    """A journal on its way into one MLflow run; the memory is saved after each step, so that none is done twice."""

    folder: Path
    events: Events
    to: Connection
    run: Run
    memory: Memory
    deadline: float
    """On the monotonic clock, in seconds."""

    def send_values(self, tags: dict[str, str]) -> None:
        """Send tags, params and points that MLflow lacks; scores first, then curves in order."""
        sent, memory = self.run.data.metrics, self.memory
        have = {name: mlflow_values.to_known_digits(name, value, sent) for name, value in sent.items()}
        scores = [point for point in mlflow_values.score_points(self.events) if have.get(point.name) != point.value]
        samples = mlflow_values.system_points(self.events, after=memory.samples)
        curves = mlflow_values.step_points(self.events, after=memory.update)
        if self.events.damaged or self.events.is_cut:  # updates before the last one sent may have come since
            sent = _updates_sent(self.to, self.run)
            curves = (point for point in mlflow_values.step_points(self.events) if point.step not in sent)
        points = chain(scores, samples, curves)
        for batch in _send(self.to, self.run, tags, mlflow_values.params(self.events), points):
            for point in batch.points:
                memory.update = max(point.step, memory.update) if mlflow_values.is_curve(point) else memory.update
                memory.samples = point.step if mlflow_values.is_sample(point) else memory.samples
            self._save()

    def send_files(self, note: str) -> None:
        """Send the files that are new or have changed."""
        self.to.check_place(self.run.info.artifact_uri)
        for name, source in mlflow_inputs.artifacts(self.folder, self.events, note):
            if self.memory.artifacts.get(name) != (fingerprint := _fingerprint(source)) and _is_sound(source):
                _upload(self.to, self.run, name, source)
                self.memory.artifacts[name] = fingerprint
                self._save()

    def _save(self) -> None:
        self.memory.save(self.folder)
        if time.monotonic() > self.deadline:
            raise TimeoutError("MLflow takes too long; the rest is sent next time")


def _is_settled(known: Known, memory: Memory, version: str, *, alive: bool) -> bool:
    """Whether MLflow has everything of the journal as it is now."""
    if [run.info.run_id for run in known.runs] != [memory.run_id]:
        return False
    (run,) = known.runs
    is_same = memory.settled == f"{mlflow_values.status(known.summary, alive=alive)} {version}"
    return is_same and memory.holds(run.info.run_id, run.info.status) and run.data.tags.get(PARENT) == known.parent_id


def _usable(known: Known | None, memory: Memory) -> list[Run] | None:
    """The known runs; None if the one that was sent to is not among them, so that MLflow must be asked again."""
    if known is None or memory.run_id not in (None, *(run.info.run_id for run in known.runs)):
        return None
    return known.runs


def _parent_id(sweep_folder: Path, to: Connection, events: Events, within_s: float) -> str:
    """The MLflow run of the sweep, made if absent, together with a view of the sweep."""
    with FileLock(sweep_folder / LOCK, timeout=within_s):
        parent = to.parent(sweep_folder, events.attempts[0])
        mlflow_inputs.show(to.client, to.experiment_id, [events], anew=False)
    return parent.info.run_id


def project_parent(sweep_folder: Path, to: Connection, runs: list[tuple[Events, bool]]) -> str:
    """Bring the MLflow run of a sweep up to date; `runs` are (events, whether a process works on it). The id.

    Its runs are renamed where their names read alike, as only the whole sweep can tell.
    """
    first = min((events.attempts[0] for events, _ in runs), key=lambda attempt: attempt["time"])
    name, statuses = first["sweep"], {mlflow_values.status(events, alive=alive) for events, alive in runs}
    with FileLock(sweep_folder / LOCK, timeout=to.within_s):
        parent = to.parent(sweep_folder, first)
        note = opening_note(sweep_folder) + sweep_note(name, [events for events, _ in runs])
        if len(note) > mlflow_values.TAG_CHARS:
            to.client.log_text(parent.info.run_id, mlflow_values.fit(note, len(note), ""), "note.md")
        tags = {"sweep.parent": name, "sweep.points": str(len(runs))}
        tags["mlflow.note.content"] = mlflow_values.fit(note, mlflow_values.TAG_CHARS, "the artifact note.md")
        for _ in _send(to, parent, tags, {}, ()):
            pass
        mlflow_inputs.show(to.client, to.experiment_id, [events for events, _ in runs], anew=True)
        ends = (events.outcome for events, _ in runs if events.outcome is not None)
        status = next((word for word in ("RUNNING", "FAILED", "KILLED") if word in statuses), "FINISHED")
        _settle(to, parent, status, max(ends, key=lambda end: end["time"], default=None))
    _rename(to, [events for events, _ in runs], parent.info.run_id)
    return parent.info.run_id


def _rename(to: Connection, runs: list[Events], parent_id: str) -> None:
    """Give the runs of a sweep in MLflow names that differ, where their own don't."""
    names = run_names(runs)
    changed = {id(run): name for run, name in zip(runs, names, strict=True) if name != run.attempts[0]["name"]}
    existing = to.points(runs[0].attempts[0]["sweep"]) if changed else {}
    for run in (run for run in runs if id(run) in changed):
        name = mlflow_values.fit(changed[id(run)], mlflow_values.NAME_CHARS, "the note")
        for found in own(run, existing.get(run.attempts[0]["key"], ()), None, parent_id):
            if found.info.run_name != name:
                to.client.set_tag(found.info.run_id, "mlflow.runName", name)


def _send(
    to: Connection, run: Run, tags: dict[str, str], params: dict[str, str], points: Iterable[mlflow_values.Point]
) -> Iterator[Batch]:
    """Send the points, and the tags and params that differ; yields each batch when it is sent. Drops outdated tags."""
    have = run.data
    changed = {name: value for name, value in tags.items() if have.tags.get(name) != value}
    missing = {name: value for name, value in params.items() if name not in have.params}
    for batch in batches(changed, missing, points):
        to.client.log_batch(
            run.info.run_id,
            metrics=[Metric(*point) for point in batch.points],
            params=[Param(*named) for named in batch.params.items()],
            tags=[RunTag(*named) for named in batch.tags.items()],
        )
        yield batch
    for name in have.tags:
        if name in mlflow_values.PASSING_TAGS and name not in tags:
            to.client.delete_tag(run.info.run_id, name)


def _last_update(to: Connection, run: Run) -> int:
    """The last update that MLflow has: it got the updates in order and stores whole batches."""
    return max(_updates_sent(to, run), default=0)


def _updates_sent(to: Connection, run: Run) -> set[int]:
    """The updates that MLflow has, asked from MLflow."""
    if mlflow_values.COUNTED not in run.data.metrics:
        return set()
    return {metric.step for metric in to.client.get_metric_history(run.info.run_id, mlflow_values.COUNTED)}


def _fingerprint(source: Path | str) -> str:
    if isinstance(source, str):
        return hashlib.sha256(source.encode(errors="replace")).hexdigest()
    stat = source.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _is_sound(source: Path | str) -> bool:
    """Whether a file may be sent: one of an entry of the store is checked, and set aside if it is damaged."""
    if isinstance(source, str) or not (source.parent / MANIFEST).is_file():
        return True
    return verified(source.resolve()) is not None


def _upload(to: Connection, run: Run, name: str, source: Path | str) -> None:
    """Send a file under its artifact name: MLflow names it by the file, so it gets a link with the right name."""
    folder, _, leaf = name.rpartition("/")
    with tempfile.TemporaryDirectory() as staging:
        staged = Path(staging, leaf)
        if isinstance(source, str):
            staged.write_text(source, errors="replace")
        else:
            staged.symlink_to(source.absolute())
        to.client.log_artifact(run.info.run_id, str(staged), folder or None)


def _settle(to: Connection, run: Run, status: str, outcome: dict[str, Any] | None) -> None:
    """Set the run's status, and its end to the time of the outcome."""
    end = None if outcome is None else milliseconds(outcome)
    if status == "RUNNING":
        if run.info.status != status:
            to.client.update_run(run.info.run_id, status)
    elif run.info.status != status or (end is not None and run.info.end_time != end):
        to.client.set_terminated(run.info.run_id, status, end)
