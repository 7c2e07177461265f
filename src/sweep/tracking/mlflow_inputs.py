"""What a run was made of and what it made, as MLflow keeps them: datasets, registered models, files, and the view.

All are sent as often as one likes: a dataset is its name and digest, a model version its run.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Run
from mlflow.exceptions import MlflowException

from sweep.tracking import mlflow_values, view
from sweep.tracking.events import Events
from sweep.tracking.journal import FILE

log = logging.getLogger(__name__)
DIGEST_CHARS = 36
ABSENT, EXISTS = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"
TAKEN, IN_THE_WAY = "BAD_REQUEST", "INTERNAL_ERROR"
"""MLflow 3.17 says the first of a dataset that another writer made after it had looked for it; the second of a model's
versions, which it numbers by trying, giving up after three that others had taken."""
TRIES, TRY_AGAIN_S = 12, 0.5


def send_inputs(client: MlflowClient, run: Run, events: Events) -> None:
    """The checkpoint, each source of data with the window read from it, and held-out text, as the run's datasets."""
    if events.inputs is None:
        return
    known = {(had.dataset.name, had.dataset.digest) for had in run.inputs.dataset_inputs}
    missing = [d for d in datasets(events.inputs) if (d.dataset.name, d.dataset.digest) not in known]
    for left in reversed(range(TRIES if missing else 0)):
        try:
            client.log_inputs(run.info.run_id, datasets=missing)
        except MlflowException as error:
            if not left or error.error_code != TAKEN:
                raise
            _let_others()
        else:
            return


def register(client: MlflowClient, run: Run, events: Events) -> None:
    """The annealed weights of a finished run that keeps them, as a version of the model `NAME-annealed`."""
    if (made := _kept(events)) is None:
        return
    inputs, result = made
    name = f"{re.sub('[/:]', '_', result['params']['model'])}-annealed"
    key, checkpoint, host = result["final_state"], inputs["checkpoint"], events.attempts[-1]["host"]
    lineage = {"checkpoint": checkpoint["name"], "checkpoint.digest": checkpoint["digest"]}
    lineage |= {f"data.{data['name']}.digest": data["digest"] for data in inputs["data"]}
    for left in reversed(range(TRIES)):
        if client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            return
        try:
            client.create_model_version(
                name,
                source=f"store://states/{key}",  # a server refuses paths of its own disk, which this needn't be
                run_id=run.info.run_id,
                tags={**lineage, "sweep.key": result["key"], "host": host},
                description=_about(result, f"{inputs['store']}/states/{key}", host),
                await_creation_for=0,
            )
        except MlflowException as error:
            if not left or error.error_code not in (ABSENT, IN_THE_WAY):
                raise
            _make_way(client, name, error.error_code)
        else:
            return


def _make_way(client: MlflowClient, name: str, error_code: str) -> None:
    """For another try: the model made where absent; some time, where others were making versions of it just then."""
    if error_code == IN_THE_WAY:
        _let_others()
        return
    try:
        client.create_registered_model(name, description="Checkpoints annealed by `python -m sweep`, a version a run.")
    except MlflowException as error:
        if error.error_code != EXISTS:
            raise


def _let_others() -> None:
    time.sleep(random.uniform(0, TRY_AGAIN_S))


def artifacts(run_folder: Path, events: Events, note: str = "") -> Iterator[tuple[str, Path | str]]:
    """Name, and the file or text, of what belongs beside the run now; the trace and the journal once it has ended."""
    yield "config.yaml", events.attempts[-1]["config_yaml"]
    if "requirements" in events.attempts[-1]:
        yield "requirements.txt", events.attempts[-1]["requirements"]
    if len(note) > mlflow_values.TAG_CHARS:
        yield "note.md", note
    for name, path in events.artifacts.items():
        if (run_folder / path).is_file():
            yield mlflow_values.tidy(name), run_folder / path
        else:
            log.warning("%s is not there to be sent to MLflow", run_folder / path)
    if events.outcome is not None:
        yield "learning_rates.csv", mlflow_values.learning_rates(events)
        yield FILE, run_folder / FILE


def show(client: MlflowClient, experiment_id: str, runs: list[Events], *, anew: bool) -> None:
    """Set the view of the sweep that these runs are of: where it has none, or `anew`."""
    present = client.get_experiment(experiment_id).tags
    if anew or view.key(runs[0].attempts[0]["sweep"]) not in present:
        for key, value in view.tags(present, runs).items():
            if present.get(key) != value:
                client.set_experiment_tag(experiment_id, key, value)


def datasets(inputs: dict[str, Any]) -> Iterator[DatasetInput]:
    """The inputs of a run in MLflow's form."""
    checkpoint = inputs["checkpoint"]
    place = {name: checkpoint[name] for name in ("step", "tokens", "lr")}
    yield _dataset(checkpoint["name"], checkpoint, "checkpoint", profile=place)
    for data in inputs["data"]:
        profile = {name: data[name] for name in ("num_files", "instances", "weight", "annealed_on", "passes")}
        yield _dataset(data["name"], data, "train", profile=profile, **inputs["window"])
    if inputs["heldout"] is not None:
        yield _dataset("heldout", inputs["heldout"], "eval", profile={})


def _dataset(name: str, found: dict[str, Any], context: str, *, profile: dict[str, Any], **more: Any) -> DatasetInput:
    remote = found["uri"].startswith(("http://", "https://"))
    source = {"url" if remote else "uri": found["uri"]}
    dataset = Dataset(
        name=name,
        digest=found["digest"][:DIGEST_CHARS],
        source_type="http" if remote else "local",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    tags = [InputTag("mlflow.data.context", context), *(InputTag(key, str(value)) for key, value in more.items())]
    return DatasetInput(dataset, tags)


def _kept(events: Events) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """(inputs, result) of a run that made weights and keeps them."""
    result = (events.outcome or {}).get("result")
    if events.inputs is None or result is None or not result["params"]["anneal.keep"]:
        return None
    return None if result["final_state"] == events.inputs["checkpoint"]["digest"] else (events.inputs, result)


def _about(result: dict[str, Any], folder: str, host: str) -> str:
    return (
        f"{result['name']}\n\nAn OLMo checkpoint folder: `{folder}` on {host}. For transformers:\n\n"
        f"    sweep export {folder} OUT"
    )
