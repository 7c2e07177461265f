"""A run's datasets, registered model and files, and the view of its sweep, sent to MLflow.

Each may be sent repeatedly without harm: MLflow knows a dataset by name and digest, and a model version by its run.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException

from sweep.tracking import mlflow_values, view
from sweep.tracking.events import Events
from sweep.tracking.journal import FILE
from sweep.tracking.markdown import code, text

log = logging.getLogger(__name__)
DIGEST_CHARS = 36
ABSENT, EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
TAKEN, COLLISION = "BAD_REQUEST", "INTERNAL_ERROR"
"""MLflow 3.17 answers the first if another writer made a dataset just after MLflow had looked for it. It answers the
second if other writers took the numbers that it tried for a model's version, three times in a row."""
TRIES, TRY_AGAIN_S = 12, 0.5


def send_inputs(client: MlflowClient, run: Run, events: Events) -> None:
    """Send the checkpoint, each data source with the window read from it, and the held-out text as datasets."""
    if events.inputs is None:
        return
    present = {(known.dataset.name, known.dataset.digest) for known in run.inputs.dataset_inputs}
    missing = [d for d in datasets(events.inputs) if (d.dataset.name, d.dataset.digest) not in present]
    if missing:
        _retried(lambda: client.log_inputs(run.info.run_id, datasets=missing), TAKEN)


def register(client: MlflowClient, run: Run, events: Events) -> None:
    """Register the annealed weights of a finished run that keeps them as a version of the model `NAME-annealed`."""
    kept = _kept(events)
    if kept is None:
        return
    inputs, result = kept
    name = f"{re.sub('[/:]', '_', result['params']['model'])}-annealed"
    key, checkpoint, host = result["final_state"], inputs["checkpoint"], events.attempts[-1]["host"]
    lineage = {"checkpoint": checkpoint["name"], "checkpoint.digest": checkpoint["digest"]}
    lineage |= {f"data.{data['name']}.digest": data["digest"] for data in inputs["data"]}

    def create() -> None:
        if client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            return
        try:
            client.create_model_version(
                name,
                source=f"store://states/{key}",  # a server refuses paths on its own disk, even if this is not one
                run_id=run.info.run_id,
                tags={**lineage, "sweep.key": result["key"], "host": host},
                description=_description(result, f"{inputs['store']}/states/{key}", host),
                await_creation_for=0,
            )
        except MlflowException as error:
            if error.error_code == ABSENT:
                _create_model(client, name)
            raise

    _retried(create, ABSENT, COLLISION)


def _create_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name, description="Checkpoints annealed by `python -m sweep`, a version a run.")
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise


def _retried(call: Callable[[], None], *error_codes: str) -> None:
    """Make the call, and again after a moment if MLflow fails with one of these codes; the last try's error is raised.

    The pauses are random, so that writers that are in each other's way come apart.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return call()
        except MlflowException as error:
            if not tries_left or error.error_code not in error_codes:
                raise
        time.sleep(random.uniform(0, TRY_AGAIN_S))


def artifacts(run_folder: Path, events: Events, note: str = "") -> Iterator[tuple[str, Path | str]]:
    """(name, file or text) of each artifact the run has now; learning rates and journal come when it has ended."""
    yield "config.yaml", events.attempts[-1]["config_yaml"]
    if "requirements" in events.attempts[-1]:
        yield "requirements.txt", events.attempts[-1]["requirements"]
    if len(note) > mlflow_values.TAG_CHARS:
        yield "note.md", note
    for name, path in events.artifacts.items():
        if (run_folder / path).is_file():
            yield mlflow_values.tidy(name), run_folder / path
        else:
            log.warning("%s can't be sent to MLflow: there is no such file", run_folder / path)
    if events.outcome is not None:
        yield "learning_rates.csv", mlflow_values.learning_rates(events)
        yield FILE, run_folder / FILE


def show(client: MlflowClient, experiment_id: str, runs: list[Events], *, anew: bool) -> None:
    """Set the view of the sweep that these runs belong to, if it has none or `anew`."""
    present = client.get_experiment(experiment_id).tags
    if anew or view.key(runs[0].attempts[0]["sweep"]) not in present:
        for key, value in view.tags(present, runs).items():
            if present.get(key) != value:
                client.set_experiment_tag(experiment_id, key, value)


def datasets(inputs: dict[str, Any]) -> Iterator[DatasetInput]:
    """The inputs of a run as MLflow's datasets."""
    checkpoint = inputs["checkpoint"]
    place = {name: checkpoint[name] for name in ("step", "tokens", "lr")}
    yield _dataset(checkpoint["name"], checkpoint, "checkpoint", profile=place)
    for data in inputs["data"]:
        profile = {name: data[name] for name in ("num_files", "instances", "weight", "annealed_on", "passes")}
        yield _dataset(data["name"], data, "train", profile=profile, **inputs["window"])
    if inputs["heldout"] is not None:
        yield _dataset("heldout", inputs["heldout"], "eval", profile={})


def _dataset(name: str, facts: dict[str, Any], context: str, *, profile: dict[str, Any], **more: Any) -> DatasetInput:
    remote = facts["uri"].startswith(("http://", "https://"))
    source = {"url" if remote else "uri": facts["uri"]}
    dataset = Dataset(
        name=name,
        digest=facts["digest"][:DIGEST_CHARS],
        source_type="http" if remote else "local",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", context), *(InputTag(key, str(value)) for key, value in more.items())]
    return DatasetInput(dataset, tags)


def _kept(events: Events) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(inputs, result) of a run that made weights and keeps them, else None."""
    result = (events.outcome or {}).get("result")
    if events.inputs is None or result is None or not result["params"]["anneal.keep"]:
        return None
    return None if result["final_state"] == events.inputs["checkpoint"]["digest"] else (events.inputs, result)


def _description(result: dict[str, Any], folder: str, host: str) -> str:
    return (
        f"{text(result['name'])}\n\nAn OLMo checkpoint folder: {code(folder)} on {text(host)}. For transformers:\n\n"
        f"    sweep export {shlex.quote(folder)} OUT"
    )
