"""MLflow as the projection of journals: brought up to date at any time, by anybody, twice without harm.

True to MLflow 3.17's store: a metric point is run, key, timestamp, step and value; params never change; tags may.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from sweep.tracking import facts, lineage
from sweep.tracking.journal import FILE, Events, read, redact
from sweep.tracking.memory import Memory, recall
from sweep.tracking.note import run_note, sweep_note
from sweep.tracking.safety import safely

# Read by MLflow when it is imported or first used: no telemetry, no "View run" lines, no chatter, short patience.
for _variable, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
}.items():
    os.environ.setdefault(_variable, _value)
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric, Param, Run, RunTag  # noqa: E402

log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)

LOCK = ".mlflow.lock"
BATCH_METRICS, BATCH_TAGS = 1000, 100
"""What MLflow takes in one log_batch; of params as many as of tags."""
PATIENT_S, SAFE_S = 600.0, 20.0
"""Seconds after which a call gives up, and a safe one; a request under way may add its own timeout."""


def project(
    run_folder: Path, *, tracking_uri: str, experiment: str, artifact_root: Path, within_s: float = PATIENT_S
) -> str:
    """Bring MLflow up to date with one run's journal; the MLflow run's id.

    TimeoutError when `within_s` is over before everything is sent; the next call goes on from there.
    """
    deadline = time.monotonic() + within_s
    with FileLock(run_folder / LOCK, timeout=within_s):
        events = read(run_folder)
        if not events.attempts:
            raise ValueError(f"{run_folder / FILE} holds no attempt that can be read")
        client, experiment_id = _connect(tracking_uri, experiment, artifact_root, within_s)
        with FileLock(run_folder.parent / LOCK, timeout=within_s):
            parent = _parent(client, experiment_id, events.attempts[0])
        run = _run(client, experiment_id, events)
        memory = recall(run_folder, Memory(redact(tracking_uri), experiment, run.info.run_id))
        memory.update = memory.update or _last_update(client, run)
        tags = {"mlflow.parentRunId": parent.info.run_id, **_note(client, run, run_note(events, run_folder))}
        _send_tags(client, run, facts.tags(events) | tags)
        _send_params(client, run, facts.params(events))
        _send_scores(client, run, events)
        lineage.send_inputs(client, run, events)
        for points in facts.batches(facts.system_points(events, after=memory.samples), BATCH_METRICS):
            _in_time(deadline)
            _send(client, run, points)
            memory.samples = points[-1].step
            memory.save(run_folder)
        for points in facts.batches(facts.step_points(events, after=memory.update), BATCH_METRICS):
            _in_time(deadline)
            _send(client, run, points)
            memory.update = points[-1].step
            memory.save(run_folder)
        for name, source in lineage.artifacts(run_folder, events):
            _in_time(deadline)
            if memory.artifacts.get(name) != (fingerprint := _fingerprint(source)):
                _upload(client, run, name, source)
                memory.artifacts[name] = fingerprint
                memory.save(run_folder)
        lineage.register(client, run, events)
        lineage.show(client, experiment_id, [events], anew=False)
        _settle(client, run, facts.status(events), events.outcome)
        return run.info.run_id


def project_sweep(
    sweep_folder: Path, *, tracking_uri: str, experiment: str, artifact_root: Path, within_s: float = PATIENT_S
) -> str:
    """Bring a sweep's parent run up to date with the journals of the run folders in `sweep_folder`; its id."""
    runs = [read(path.parent, steps=False) for path in sorted(sweep_folder.glob(f"*/{FILE}"))]
    runs = [events for events in runs if events.attempts]
    if not runs:
        raise ValueError(f"{sweep_folder} holds no run with an attempt that can be read")
    client, experiment_id = _connect(tracking_uri, experiment, artifact_root, within_s)
    first = min((events.attempts[0] for events in runs), key=lambda attempt: attempt["time"])
    name = first["sweep"]
    with FileLock(sweep_folder / LOCK, timeout=within_s):
        parent = _parent(client, experiment_id, first)
        note = _note(client, parent, sweep_note(name, runs))
        _send_tags(client, parent, {"sweep.parent": name, "sweep.points": str(len(runs)), **note})
        lineage.show(client, experiment_id, runs, anew=True)
        ends = (events.outcome for events in runs if events.outcome is not None)
        words = {facts.status(events) for events in runs}
        status = next((word for word in ("RUNNING", "FAILED", "KILLED") if word in words), "FINISHED")
        _settle(client, parent, status, max(ends, key=lambda end: end["time"], default=None))
    return parent.info.run_id


def project_safely(run_folder: Path, *, tracking_uri: str, experiment: str, artifact_root: Path) -> str | None:
    """`project` within SAFE_S; None, and a warning, where MLflow is away, locked, full or slow."""
    where = {"tracking_uri": tracking_uri, "experiment": experiment}
    return safely(project, run_folder, artifact_root=artifact_root, within_s=SAFE_S, **where)


def project_sweep_safely(sweep_folder: Path, *, tracking_uri: str, experiment: str, artifact_root: Path) -> str | None:
    """`project_sweep` in the same way."""
    where = {"tracking_uri": tracking_uri, "experiment": experiment}
    return safely(project_sweep, sweep_folder, artifact_root=artifact_root, within_s=SAFE_S, **where)


def _connect(tracking_uri: str, name: str, artifact_root: Path, within_s: float) -> tuple[MlflowClient, str]:
    """A client, and the experiment's id; both made one process at a time, as an empty database can't take two."""
    artifact_root.mkdir(parents=True, exist_ok=True)
    with FileLock(artifact_root / LOCK, timeout=within_s):
        client = MlflowClient(tracking_uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            at = None if tracking_uri.startswith("http") else artifact_root.absolute().as_uri()
            experiment = client.get_experiment(client.create_experiment(name, artifact_location=at))
        elif experiment.lifecycle_stage == "deleted":
            client.restore_experiment(experiment.experiment_id)
    return client, experiment.experiment_id


def _parent(client: MlflowClient, experiment_id: str, first: dict[str, Any]) -> Run:
    """The sweep's run, made where absent, started with the attempt `first`; the caller holds the sweep's lock."""
    tags = {"sweep.parent": first["sweep"]}
    found = _found(client, experiment_id, tags)
    return found or client.create_run(experiment_id, facts.milliseconds(first), tags, _run_name(first["sweep"]))


def _run(client: MlflowClient, experiment_id: str, events: Events) -> Run:
    """The point's run, made where absent; the caller holds the run's lock."""
    first = events.attempts[0]
    tags = {"sweep.key": first["key"], "sweep.name": first["sweep"]}
    found = _found(client, experiment_id, tags)
    return found or client.create_run(experiment_id, facts.milliseconds(first), tags, _run_name(first["name"]))


def _run_name(text: str) -> str:
    """A run's name; PostgreSQL refuses a longer one."""
    return facts.fit(text, facts.NAME_CHARS, "the note")


def _found(client: MlflowClient, experiment_id: str, tags: dict[str, str]) -> Run | None:
    """The run with these tags; of two (a lost acknowledgement can make them) always the same one."""
    # MLflow's filters have no way to write a quote: a wildcard stands for it, and what is found is compared.
    words = (f"tags.`{name}` LIKE '{re.sub('[^a-zA-Z0-9]', '_', value)}'" for name, value in tags.items())
    runs = client.search_runs([experiment_id], " and ".join(words))
    return min(
        (run for run in runs if tags.items() <= run.data.tags.items()),
        key=lambda run: (run.info.start_time, run.info.run_id),
        default=None,
    )


def _note(client: MlflowClient, run: Run, text: str) -> dict[str, str]:
    """The tag that holds a run's note; one too long for it is whole in an artifact."""
    if len(text) > facts.TAG_CHARS:
        client.log_text(run.info.run_id, text, "note.md")
    return {"mlflow.note.content": facts.fit(text, facts.TAG_CHARS, "the artifact note.md")}


def _send_tags(client: MlflowClient, run: Run, tags: dict[str, str]) -> None:
    """Set what differs, and drop what no longer holds."""
    changed = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    for start in range(0, len(changed), BATCH_TAGS):
        client.log_batch(run.info.run_id, tags=changed[start : start + BATCH_TAGS])
    for name in run.data.tags:
        if name in facts.PASSING_TAGS and name not in tags:
            client.delete_tag(run.info.run_id, name)


def _send_params(client: MlflowClient, run: Run, params: dict[str, str]) -> None:
    missing = [Param(name, value) for name, value in params.items() if name not in run.data.params]
    for start in range(0, len(missing), BATCH_TAGS):
        client.log_batch(run.info.run_id, params=missing[start : start + BATCH_TAGS])


def _send_scores(client: MlflowClient, run: Run, events: Events) -> None:
    points = [point for point in facts.score_points(events) if run.data.metrics.get(point.name) != point.value]
    for start in range(0, len(points), BATCH_METRICS):
        _send(client, run, points[start : start + BATCH_METRICS])


def _last_update(client: MlflowClient, run: Run) -> int:
    """The last update MLflow has, asked where nobody remembers; batches are sent in order and stored whole or not."""
    return max((metric.step for metric in client.get_metric_history(run.info.run_id, facts.COUNTED)), default=0)


def _send(client: MlflowClient, run: Run, points: list[facts.Point]) -> None:
    client.log_batch(run.info.run_id, metrics=[Metric(*point) for point in points])


def _fingerprint(source: Path | str) -> str:
    if isinstance(source, str):
        return hashlib.sha256(source.encode()).hexdigest()
    stat = source.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _upload(client: MlflowClient, run: Run, name: str, source: Path | str) -> None:
    """Send a file under its name: MLflow takes the name from the file, so it is linked under the right one."""
    folder, _, leaf = name.rpartition("/")
    with tempfile.TemporaryDirectory() as made:
        staged = Path(made, leaf)
        if isinstance(source, str):
            staged.write_text(source)
        else:
            staged.symlink_to(source.absolute())
        client.log_artifact(run.info.run_id, str(staged), folder or None)


def _settle(client: MlflowClient, run: Run, status: str, outcome: dict[str, Any] | None) -> None:
    """Give the run its status, and its end at the outcome's time."""
    end = None if outcome is None else facts.milliseconds(outcome)
    if status == "RUNNING":
        if run.info.status != status:
            client.update_run(run.info.run_id, status)
    elif (run.info.status, run.info.end_time) != (status, end):
        client.set_terminated(run.info.run_id, status, end)


def _in_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError("MLflow takes too long; the rest is sent next time")
