"""What went into a run and what came of it are where MLflow shows them, once each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import BAD_REQUEST, MlflowException

from sweep.tracking import Events, mlflow_inputs, read

from .conftest import ATTEMPT

MakeRun = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("lineage") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").create_experiment("anneal")
    return file


@pytest.fixture
def client(database: Path, tmp_path: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{shutil.copy(database, tmp_path)}")


def sent(client: MlflowClient, run: Run, events: Events, *, times: int = 2) -> Run:
    for _ in range(times):
        run = client.get_run(run.info.run_id)
        mlflow_inputs.send_inputs(client, run, events)
        mlflow_inputs.register(client, run, events)
    return client.get_run(run.info.run_id)


def test_checkpoint_data_and_held_out_text_are_the_runs_datasets(run: MakeRun, client: MlflowClient) -> None:
    found = sent(client, client.create_run("1"), read(run()))
    inputs = {i.dataset.name: (i.dataset, {tag.key: tag.value for tag in i.tags}) for i in found.inputs.dataset_inputs}
    assert len(found.inputs.dataset_inputs) == len(inputs) == 3
    checkpoint, tags = inputs["tiny-s@2000"]
    assert (checkpoint.digest, tags["mlflow.data.context"]) == ("c" * 32, "checkpoint")
    assert json.loads(checkpoint.source) == {"url": "https://host/step2000-unsharded"}
    data, tags = inputs["original"]
    assert (data.digest, tags["mlflow.data.context"]) == ("d" * 32, "train")
    assert (tags["first_instance"], tags["updates"]) == ("2000", "20")
    assert json.loads(data.profile)["annealed_on"] == 20
    assert inputs["heldout"][1]["mlflow.data.context"] == "eval"


def test_a_dataset_that_another_run_makes_in_between_is_tried_again(
    run: MakeRun, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks whether there is one, then makes it; PostgreSQL refuses the second of two."""
    real, tries = MlflowClient.log_inputs, []

    def overtaken(*args: Any, **kwargs: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise MlflowException('duplicate key value violates "dataset_pk"', error_code=BAD_REQUEST)
        real(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "log_inputs", overtaken)
    monkeypatch.setattr(mlflow_inputs, "TRY_AGAIN_S", 0.0)
    found = sent(client, client.create_run("1"), read(run()), times=1)
    assert len(found.inputs.dataset_inputs) == 3

    monkeypatch.setattr(MlflowClient, "log_inputs", lambda *args, **kwargs: overtaken(tries.clear()))
    with pytest.raises(MlflowException, match="dataset_pk"):
        sent(client, client.create_run("1"), read(run("b", key="b")), times=1)


def test_kept_weights_are_one_version_of_the_models_annealed(run: MakeRun, client: MlflowClient) -> None:
    first = sent(client, client.create_run("1"), read(run()))
    second = sent(client, client.create_run("1"), read(run("b", key="b")))
    versions = client.search_model_versions("name = 'tiny-s-annealed'")
    assert {version.run_id for version in versions} == {first.info.run_id, second.info.run_id}
    assert len(versions) == 2
    assert {version.source for version in versions} == {f"store://states/{'f' * 32}"}
    version = versions[0]
    assert version.tags["checkpoint.digest"] == "c" * 32
    assert version.tags["data.original.digest"] == "d" * 32
    assert f"sweep export /where/store/states/{'f' * 32} OUT" in version.description


@pytest.mark.parametrize("status", [None, "failed"])
def test_a_run_without_a_result_registers_nothing(run: MakeRun, client: MlflowClient, status: str | None) -> None:
    sent(client, client.create_run("1"), read(run(status=status)), times=1)
    assert client.search_registered_models() == []


def test_dropped_weights_are_not_registered(
    run: MakeRun, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTEMPT["params"], "anneal.keep", False)
    sent(client, client.create_run("1"), read(run()), times=1)
    assert client.search_registered_models() == []
