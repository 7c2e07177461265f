"""An open MLflow: finds or makes its experiment, one MLflow run for each sweep, and one for each run of a sweep."""

from __future__ import annotations

import functools
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from sweep.domain.redaction import redact
from sweep.tracking import mlflow_values
from sweep.tracking.events import Events, milliseconds
from sweep.tracking.place import sqlite_file
from sweep.tracking.sync_state import beginnings, remember_beginning

# MLflow reads these when it is imported or first used: no telemetry, no "View run" lines, few log lines. It must not
# retry by itself: a create_run whose answer was lost would make two runs. We look up what exists before the next try.
for _variable, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_variable, _value)
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Experiment, Run  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402

for _name in ("alembic", "mlflow", "urllib3.connectionpool"):  # errors become one line of ours
    logging.getLogger(_name).setLevel(logging.CRITICAL)

T = TypeVar("T")

PARENT = "mlflow.parentRunId"
"""MLflow's tag of a run inside another: its id."""
LOCK = ".mlflow.lock"
PATIENT_S = 600.0
"""Seconds to wait for a lock, at most."""
LOCKED_S = 60.0
"""Seconds to wait for a SQLite file that another program has locked."""
BEGAN = "sweep.began"
"""Tag of a run whose journal has lost its beginning: when it begins now, in ms since 1970."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EXISTS = "RESOURCE_ALREADY_EXISTS"
PAGE = 1000
"""Runs in one answer of MLflow's search."""


class Connection:
    """A client and the experiment, which is made if absent; several threads may share it."""

    def __init__(self, tracking_uri: str, experiment: str, artifact_root: Path, *, within_s: float = PATIENT_S) -> None:
        """Make schema and experiment if absent, one process at a time: MLflow fails if two do.

        Without a server, artifacts go to `artifact_root`. `within_s` is the longest wait for a lock, in seconds.
        """
        self.server, self.experiment, self.within_s = redact(tracking_uri), experiment, within_s
        self.is_server = tracking_uri.startswith("http")
        artifact_root.mkdir(parents=True, exist_ok=True)
        with FileLock(artifact_root / LOCK, timeout=within_s):
            _make_database(tracking_uri)
            self.client = cast(MlflowClient, _Waiting(while_locked(MlflowClient, tracking_uri)))
            opened = self.client.get_experiment_by_name(experiment) or self._new_experiment(artifact_root)
            if opened.lifecycle_stage == "deleted":
                self.client.restore_experiment(opened.experiment_id)
        self.experiment_id = opened.experiment_id

    def parent(self, sweep_folder: Path, first: dict[str, Any]) -> Run:
        """The MLflow run of the sweep in this folder, made if absent; the caller holds its lock.

        `first` is an attempt of one of its runs. The sweep starts when the first of them did, even if that one has been
        deleted since. This tells it from a sweep of the same name in another folder.
        """
        existing, began = self._parents(sweep_folder, first)
        tags = {"sweep.parent": first["sweep"]}
        run = self._only(existing, prefer=None) or self._create(min(began), tags, first["sweep"])
        remember_beginning(sweep_folder, run.info.start_time)
        return run

    def parent_id(self, sweep_folder: Path, first: dict[str, Any]) -> str | None:
        """The id of the MLflow run of the sweep in this folder; None if there is none yet."""
        existing, _ = self._parents(sweep_folder, first)
        return existing[0].info.run_id if existing else None

    def _parents(self, sweep_folder: Path, first: dict[str, Any]) -> tuple[list[Run], set[int]]:
        """The MLflow runs of the sweep in this folder, and when it may have begun, in ms since 1970."""
        began = beginnings(sweep_folder) | {milliseconds(first)}
        found = self._found({"sweep.parent": first["sweep"]})
        return [run for run in found if run.info.start_time in began], began

    def point(self, events: Events, tags: dict[str, str], *, known: list[Run] | None, prefer: str | None) -> Run:
        """The MLflow run of a journal, made with `tags` if absent; the caller holds the run's lock.

        `known` are the MLflow runs that stand for it, or None to ask for them; of several, `prefer` is the id to keep.
        """
        first = events.attempts[0]
        identity = {"sweep.key": first["key"], "sweep.name": first["sweep"]}
        existing = own(events, self._found(identity), prefer, tags[PARENT]) if known is None else known
        run = self._only(existing, prefer=prefer)
        return run or self._create(milliseconds(first), tags | identity, first["name"])

    def points(self, sweep: str) -> dict[str, list[Run]]:
        """Run key -> the MLflow runs with that key, of all runs of a sweep."""
        points: dict[str, list[Run]] = {}
        for run in self._found({"sweep.name": sweep}):
            points.setdefault(run.data.tags.get("sweep.key", ""), []).append(run)
        return points

    def check_place(self, artifact_uri: str) -> None:
        """OSError if a run's files would stay on this machine, because the server names a path of its own disk."""
        place = urlsplit(artifact_uri)
        if not self.is_server or place.scheme not in ("", "file") or urlsplit(self.server).hostname in LOOPBACK:
            return
        root = Path(unquote(place.path)).parents[2]  # of ROOT/EXPERIMENT/RUN/artifacts
        if not root.is_dir():  # on a shared disk it is
            raise OSError(f"{self.server} keeps files in {root}, which is not here: start it with --serve-artifacts")

    def _new_experiment(self, artifact_root: Path) -> Experiment:
        at = None if self.is_server else artifact_root.absolute().as_uri()
        try:
            self.client.create_experiment(self.experiment, artifact_location=at)
        except MlflowException as error:
            if error.error_code != EXISTS:  # another host was faster
                raise
        return self.client.get_experiment_by_name(self.experiment)

    def _only(self, runs: Iterable[Run], *, prefer: str | None) -> Run | None:
        """The one run to keep, whoever asks; others, which two hosts without locks can make, are deleted."""
        ordered = sorted(runs, key=lambda run: (run.info.run_id != prefer, run.info.start_time, run.info.run_id))
        for other in ordered[1:]:
            self.client.delete_run(other.info.run_id)
        return next(iter(ordered), None)

    def _create(self, started: int, tags: dict[str, str], name: str) -> Run:
        short = mlflow_values.fit(name, mlflow_values.NAME_CHARS, "the note")  # PostgreSQL refuses a longer one
        return self.client.create_run(self.experiment_id, started, tags, short)

    def _found(self, tags: dict[str, str]) -> list[Run]:
        """The runs with these tags."""
        # MLflow's filters can't hold a quote, so a wildcard stands for it; then the tags are compared exactly.
        words = (f"tags.`{name}` LIKE '{re.sub('[^a-zA-Z0-9]', '_', value)}'" for name, value in tags.items())
        filter_string, runs, token = " and ".join(words), [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], filter_string, max_results=PAGE, page_token=token, order_by=["start_time"]
            )
            runs += [run for run in page if tags.items() <= run.data.tags.items()]
            token = page.token
            if not token:
                return runs


def own(events: Events, runs: Iterable[Run], remembered: str | None, parent_id: str | None) -> list[Run]:
    """Of MLflow runs with this journal's key, those that began in the same millisecond as the journal.

    If there is none, the `remembered` one to which the journal was sent: its first line may have been damaged since. If
    that is not known either, those of this sweep, `parent_id`: the journal was lost, and the run was made again. The
    tag BEGAN says from then on when the journal begins now. Others are of somebody else, who made the same run in a
    sweep of the same name.
    """
    runs, ms = list(runs), milliseconds(events.attempts[0])
    began = [run for run in runs if run.info.start_time == ms or run.data.tags.get(BEGAN) == str(ms)]
    sent = began or [run for run in runs if run.info.run_id == remembered]
    return sent or [run for run in runs if parent_id is not None and run.data.tags.get(PARENT) == parent_id]


def as_begun(events: Events, run: Run) -> Events:
    """The journal with the beginning of its MLflow run, by which its points are dated.

    The two differ only if the journal's first line is damaged.
    """
    first, *later = events.attempts
    if milliseconds(first) == run.info.start_time:
        return events
    return replace(events, attempts=({**first, "time": (run.info.start_time + 0.5) / 1000}, *later), is_cut=True)


class _Waiting:
    """MLflow's client, each call of which waits while another program has locked the SQLite file."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return functools.partial(while_locked, getattr(self._client, name))


def while_locked(call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """The call's result; made again for LOCKED_S seconds while the database is locked.

    A locked database has taken nothing of a call. MLflow 3.17 waits up to 20 s by itself, and not at all where SQLite
    thinks that waiting could be a deadlock.
    """
    until = time.monotonic() + LOCKED_S
    while True:
        try:
            return call(*arguments, **named)
        except MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.5)


def _make_database(tracking_uri: str) -> None:
    """Make a SQLite file if it is absent; it appears under its name only when its schema is complete."""
    path = sqlite_file(tracking_uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        complete = Path(folder, path.name)
        MlflowClient(f"sqlite:///{complete}").search_experiments()
        os.replace(complete, path)
