"""MLflow holds exactly what the journals hold: after one projection, two, a killed one, and several at once."""

from __future__ import annotations

import csv
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from sweep.tracking import Journal, log_batches, mlflow_inputs, mlflow_values, projection, read, sweeps
from sweep.tracking.connection import Connection

from .conftest import ATTEMPT, score, write_run

MakeRun = Callable[..., Path]
pytestmark = pytest.mark.filterwarnings("ignore:The .*noload.* loader strategy is deprecated")


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a schema and the experiment: making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("empty")
    Connection(f"sqlite:///{folder}/mlflow.db", "untouched", folder / "mlartifacts")
    return folder / "mlflow.db"


@pytest.fixture
def where(tmp_path: Path, empty: Path) -> dict[str, Any]:
    shutil.copy(empty, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return {"tracking_uri": uri, "experiment": "anneal", "artifact_root": tmp_path / "mlartifacts"}


def project(folder: Path, where: dict[str, Any], **more: Any) -> str:
    return projection.project(folder, Connection(**where), **{"alive": True, **more})


def project_sweep(folder: Path, where: dict[str, Any], *, alive: bool = True) -> str:
    runs = [(events, alive) for events in sweeps.journals(folder).values()]
    return projection.project_parent(folder, Connection(**where), runs)


def runs(where: dict[str, Any]) -> list[MlflowRun]:
    """The points' runs, without parents."""
    client = MlflowClient(where["tracking_uri"])
    found = client.search_runs([Connection(**where).experiment_id])
    return [run for run in found if "sweep.parent" not in run.data.tags]


def stored(where: dict[str, Any], run_id: str) -> list[tuple[str, float, int, int]]:
    """Every metric point the database holds of a run, NaN as MLflow keeps it."""
    path = where["tracking_uri"].removeprefix("sqlite:///")
    rows = "select key, value, timestamp, step from metrics where run_uuid = ? order by key, step"
    with sqlite3.connect(path) as connection:
        found = connection.execute(rows, (run_id,)).fetchall()
    connection.close()
    return found


def expected(folder: Path) -> list[tuple[str, float, int, int]]:
    """Every point the journal says, in the same form and order."""
    events = read(folder)
    points = [
        *mlflow_values.step_points(events),
        *mlflow_values.score_points(events),
        *mlflow_values.system_points(events),
    ]
    return sorted(
        ((p.name, 0.0 if math.isnan(p.value) else p.value, p.timestamp, p.step) for p in points),
        key=lambda p: (p[0], p[3]),
    )


def test_mlflow_holds_what_the_journal_holds(run: MakeRun, where: dict[str, Any]) -> None:
    folder = run()
    run_id = project(folder, where)
    found = MlflowClient(where["tracking_uri"]).get_run(run_id)
    assert stored(where, run_id) == expected(folder)
    assert (
        len(stored(where, run_id)) == 20 * 6 - 1 + 2 + 9 * 2 + 5 + 2
    )  # the last learning rate, 0, has no log10; update_norm is in 2 updates
    assert found.info.run_name == ATTEMPT["name"]
    assert found.info.status == "FINISHED"
    assert found.data.params == {
        "model": "tiny-s",
        "anneal.steps": "20",
        "anneal.peak_lr": "null",
        "anneal.shape": "linear",
        "anneal.keep": "true",
        "tasks.suites.core8.metrics.arc_easy": "acc",
        "plan.peak_lr": "0.002",
        "plan.log10_peak_lr": "-2.69897",
    }
    assert found.data.metrics["before/mean"] == 0.31
    assert found.data.metrics["delta/heldout.loss"] == -0.2
    assert found.data.metrics["stderr/after/arc_easy.acc"] == 0.01
    tags = found.data.tags
    assert tags["sweep.key"] == ATTEMPT["key"]
    assert tags["sweep.name"] == "steps"
    assert tags["sweep.attempts"] == "1"
    assert "| core8 | mean | 100 | 0.310 | 0.410 | +0.100 ± 0.010 |" in tags["mlflow.note.content"]
    assert "`heldout.loss` (lower is better): 4.200 → 4.000, -0.200 ± 0.010" in tags["mlflow.note.content"]
    assert "tiny-s@2000` at step 2,000, 768,000 tokens, learning rate 0.004" in tags["mlflow.note.content"]
    assert ATTEMPT["command"] in tags["mlflow.note.content"]
    assert tags["mlflow.source.git.commit"] == "c0ffee"
    assert tags["mlflow.source.git.branch"] == "main"
    assert tags["mlflow.user"] == "ada"
    assert tags["machine.gpus"] == '["a GPU"]'
    assert tags["checkpoint.digest"] == "c" * 32


def test_artifacts_are_the_files(run: MakeRun, where: dict[str, Any]) -> None:
    folder = run()
    run_id = project(folder, where)
    at = next(where["artifact_root"].glob(f"**/{run_id}/artifacts"))
    assert {str(f.relative_to(at)) for f in at.rglob("*") if f.is_file()} == {
        "config.yaml",
        "journal.jsonl",
        "learning_rates.csv",
        "records/before.parquet",
        "requirements.txt",
    }
    assert (at / "config.yaml").read_text() == ATTEMPT["config_yaml"]
    assert (at / "journal.jsonl").read_bytes() == (folder / "journal.jsonl").read_bytes()
    assert not (at / "journal.jsonl").is_symlink()
    rows = csv.DictReader((at / "learning_rates.csv").read_text().splitlines())
    assert [float(row["lr"]) for row in rows] == [record["lr"] for record in read(folder).steps]


@pytest.mark.parametrize("forget", [False, True])
def test_twice_is_once(run: MakeRun, where: dict[str, Any], forget: bool) -> None:
    folder = run()
    first = project(folder, where)
    before = runs(where)[0].to_dictionary()
    if forget:
        (folder / "mlflow.json").unlink()
    assert project(folder, where) == first
    assert [found.to_dictionary() for found in runs(where)] == [before]
    assert stored(where, first) == expected(folder)


def test_a_run_is_followed_while_it_goes_on(run: MakeRun, where: dict[str, Any]) -> None:
    folder = run(status=None, steps=5)
    run_id = project(folder, where)
    assert runs(where)[0].info.status == "RUNNING"
    run(status="failed", steps=20)
    project(folder, where)
    found = runs(where)[0]
    assert found.info.status == "FAILED"
    assert found.data.tags["sweep.error"].endswith("loss is nan")
    run(status="finished", steps=20, host="node2", params={**ATTEMPT["params"], "anneal.steps": 21})
    project(folder, where)
    found = runs(where)[0]
    assert (found.info.run_id, found.info.status) == (run_id, "FINISHED")
    assert "sweep.error" not in found.data.tags
    assert found.data.tags["sweep.attempts"] == "3"
    assert found.data.tags["host"] == "node2"
    assert found.data.params["anneal.steps"] == "20"
    assert found.data.tags["sweep.changed_params"] == '{"anneal.steps": 21}'
    tokens = [point for point in stored(where, run_id) if point[0] == mlflow_values.COUNTED]
    assert [point[3] for point in tokens] == list(range(1, 21))


@pytest.mark.parametrize(("status", "shown"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_an_outcome_is_never_shown_better_than_it_was(
    run: MakeRun, where: dict[str, Any], status: str, shown: str
) -> None:
    project(run(status=status), where)
    assert runs(where)[0].info.status == shown


CALLS = {
    "create_experiment": (1,),
    "set_experiment_tag": (1, 3),
    "search_runs": (1, 2),
    "create_run": (1, 2),
    "log_batch": (1, 4, 6),
    "log_artifact": (1, 5),
    "log_inputs": (1,),
    "create_registered_model": (1,),
    "create_model_version": (2,),  # of a model that is not there yet, the first is refused
    "set_terminated": (1,),
}
"""Of those that are made several times in a row, the first and the last."""


@pytest.mark.parametrize(("stage", "call"), [(stage, number) for stage, calls in CALLS.items() for number in calls])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_fault_at_any_call_costs_nothing(
    run: MakeRun, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch, stage: str, late: bool, call: int
) -> None:
    monkeypatch.setattr(log_batches, "ENTITIES", 30)
    folder = run()
    real, calls = getattr(MlflowClient, stage), []

    def faulty(*args: Any, **kwargs: Any) -> Any:
        calls.append(stage)
        if len(calls) == call and not late:
            raise ConnectionError("not sent")
        answer = real(*args, **kwargs)
        if len(calls) == call:
            raise ConnectionError("sent, but nobody said so")
        return answer

    monkeypatch.setattr(MlflowClient, stage, faulty)
    with pytest.raises(ConnectionError):
        project(folder, where)
    assert len(calls) == call
    monkeypatch.setattr(MlflowClient, stage, real)
    run_id = project(folder, where)
    assert [found.info.run_id for found in runs(where)] == [run_id]
    assert stored(where, run_id) == expected(folder)
    assert runs(where)[0].info.status == "FINISHED"


KILLED = """
import os, signal, sys
from pathlib import Path
from mlflow import MlflowClient
from sweep.tracking import log_batches, projection
from sweep.tracking.connection import Connection
real, left = MlflowClient.log_batch, int(sys.argv[4])
def log_batch(*args, **kwargs):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **kwargs)
MlflowClient.log_batch = log_batch
log_batches.ENTITIES = 30
projection.project(Path(sys.argv[1]), Connection(sys.argv[2], "anneal", Path(sys.argv[3])), alive=True)
"""


def project_elsewhere(code: str, folder: Path, where: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, str(folder), where["tracking_uri"], str(where["artifact_root"]), *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_a_projection_killed_half_way_is_ended_by_the_next(run: MakeRun, where: dict[str, Any]) -> None:
    folder = run()
    with project_elsewhere(KILLED, folder, where, "5") as killed:
        pass
    assert killed.returncode == -signal.SIGKILL
    half = stored(where, runs(where)[0].info.run_id)
    assert 0 < len(half) < len(expected(folder))
    run_id = project(folder, where)
    assert stored(where, run_id) == expected(folder)
    assert len(runs(where)) == 1


@pytest.mark.slow
def test_several_processes_at_once_make_one_run(run: MakeRun, tmp_path: Path, where: dict[str, Any]) -> None:
    """On a database that isn't there yet, which MLflow alone can't make from two processes."""
    (tmp_path / "mlflow.db").unlink()
    folder = run(steps=300)
    code = KILLED.replace("left == 0", "False") + "print('done')"
    working = [project_elsewhere(code, folder, where, "0") for _ in range(3)]
    assert [process.communicate(timeout=300)[0] for process in working] == ["done\n"] * 3
    (found,) = runs(where)
    assert stored(where, found.info.run_id) == expected(folder)


def test_another_server_gets_everything(run: MakeRun, where: dict[str, Any], empty: Path, tmp_path: Path) -> None:
    folder = run()
    project(folder, where)
    shutil.copy(empty, tmp_path / "other.db")
    other = {**where, "tracking_uri": f"sqlite:///{tmp_path}/other.db", "artifact_root": tmp_path / "other"}
    run_id = project(folder, other)
    assert stored(other, run_id) == expected(folder)
    assert any((tmp_path / "other").glob(f"**/{run_id}/artifacts/records/before.parquet"))


def test_a_database_made_anew_gets_everything(run: MakeRun, where: dict[str, Any], empty: Path, tmp_path: Path) -> None:
    folder = run()
    project(folder, where)
    shutil.copy(empty, tmp_path / "mlflow.db")
    run_id = project(folder, where)
    assert stored(where, run_id) == expected(folder)


def test_a_database_put_back_from_a_backup_gets_the_rest_again(
    run: MakeRun, where: dict[str, Any], tmp_path: Path
) -> None:
    """It has the run's first half; the folder remembers that all was sent."""
    folder = run()
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:12]))
    run_id = project(folder, where)
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "backup.db")
    journal.write_bytes(whole)
    project(folder, where)
    shutil.copy(tmp_path / "backup.db", tmp_path / "mlflow.db")
    to = Connection(**where)
    assert [synced.error for synced in sweeps.sync_runs(to, sweeps.journals(folder.parent))] == [None]
    assert runs(where)[0].info.status == "FINISHED"
    assert stored(where, run_id) == expected(folder)


def test_what_a_person_deleted_is_made_again(run: MakeRun, where: dict[str, Any]) -> None:
    """A point, the sweep's own run, the whole experiment."""
    folder, client = run(), MlflowClient(where["tracking_uri"])

    def sync() -> tuple[str, str]:
        to, journals = Connection(**where), sweeps.journals(folder.parent)
        assert [synced.error for synced in sweeps.sync_runs(to, journals)] == [None]
        assert sweeps.sync_parent(to, folder.parent, journals) is None
        (found,) = runs(where)
        assert stored(where, found.info.run_id) == expected(folder)
        return found.info.run_id, found.data.tags["mlflow.parentRunId"]

    point, parent = sync()
    client.delete_run(parent)
    same, other_parent = sync()
    assert (same, other_parent == parent) == (point, False)
    client.delete_run(point)
    other, same = sync()
    assert (other == point, same) == (False, other_parent)
    client.delete_experiment(Connection(**where).experiment_id)
    assert sync()[0] == other, "with it MLflow brings back what was deleted before"


def test_a_sweep_is_the_same_when_its_first_run_is_deleted(run: MakeRun, where: dict[str, Any]) -> None:
    """It begins when that run did, which the sweep's folder remembers."""
    first = run("a", key="a")
    time.sleep(0.01)
    second = run("b", key="b")
    project(first, where)
    parent = project_sweep(first.parent, where)
    shutil.rmtree(first)
    project(second, where)
    assert project_sweep(second.parent, where) == parent
    tags = MlflowClient(where["tracking_uri"]).get_run(parent).data.tags
    assert (tags["sweep.parent"], tags["sweep.points"]) == ("steps", "1")


def test_the_same_point_of_somebody_elses_sweep_of_that_name_is_another_run(
    run: MakeRun, where: dict[str, Any], tmp_path: Path
) -> None:
    mine, theirs = run(), write_run(tmp_path / "theirs" / "steps" / "a", steps=7)
    ids = [project(folder, where) for folder in (mine, theirs)]
    parents = [project_sweep(folder.parent, where) for folder in (mine, theirs)]
    assert [stored(where, run_id) for run_id in ids] == [expected(mine), expected(theirs)]
    found = {run.info.run_id: run.data.tags["mlflow.parentRunId"] for run in runs(where)}
    assert found == dict(zip(ids, parents, strict=True))
    assert len(set(parents)) == 2
    copied = shutil.copytree(mine.parent, tmp_path / "copied" / "steps")
    assert project(copied / "a", where) == ids[0], "a copy is the same one"


def test_an_experiment_that_another_host_made_just_then_is_the_one(
    where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, real, asked = Connection(**where).experiment_id, MlflowClient.get_experiment_by_name, []

    def late(client: MlflowClient, name: str) -> Any:
        asked.append(name)
        return real(client, name) if len(asked) > 1 else None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", late)
    assert Connection(**where).experiment_id == made


def test_versions_of_a_model_that_others_make_at_once_are_tried_again(
    run: MakeRun, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow numbers them by trying, three times, and gives up."""
    real, tries = MlflowClient.create_model_version, []

    def crowded(*args: Any, **kwargs: Any) -> Any:
        tries.append(1)
        if len(tries) < 4:
            raise MlflowException("Model Version creation error. Giving up after 3 attempts.")
        return real(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", crowded)
    monkeypatch.setattr(mlflow_inputs, "TRY_AGAIN_S", 0.0)
    run_id = project(run(), where)
    (version,) = MlflowClient(where["tracking_uri"]).search_model_versions(f"run_id = '{run_id}'")
    assert version.name == "tiny-s-annealed"


def test_files_that_the_server_can_not_take_hide_neither_points_nor_outcome(
    run: MakeRun, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("/srv/mlartifacts")

    folder = run()
    monkeypatch.setattr(MlflowClient, "log_artifact", refuse)
    with pytest.raises(PermissionError):
        project(folder, where)
    (found,) = runs(where)
    assert found.info.status == "FINISHED"
    assert stored(where, found.info.run_id) == expected(folder)


def test_files_do_not_go_astray_at_a_path_of_the_servers_disk(
    run: MakeRun, where: dict[str, Any], tmp_path: Path
) -> None:
    """As of `mlflow server --no-serve-artifacts` on another machine: MLflow's client makes that path on this one."""
    folder, to = run(), Connection(**{**where, "artifact_root": tmp_path / "srv" / "1"})
    shutil.rmtree(tmp_path / "srv")
    to.is_server, to.server = True, "https://***@lab:5000"
    with pytest.raises(OSError, match=r"lab:5000 keeps files in .*, which is not here: start it with --serve"):
        projection.project(folder, to, alive=False)
    assert not (tmp_path / "srv").exists()
    assert runs(where)[0].info.status == "FINISHED"
    to.server = "http://127.0.0.1:5000"
    assert projection.project(folder, to, alive=False) == runs(where)[0].info.run_id


def test_non_finite_values_break_nothing_and_are_told(run: MakeRun, where: dict[str, Any]) -> None:
    folder = run(changed={3: {"loss": math.nan}, 4: {"loss": math.inf}, 5: {"grad_norm": -math.inf}})
    run_id = project(folder, where)
    assert stored(where, run_id) == expected(folder)
    history = MlflowClient(where["tracking_uri"]).get_metric_history(run_id, "train/loss")
    assert [point.step for point in history if math.isnan(point.value)] == [3, 4]
    assert all(abs(value) < 1e300 for _, value, _, _ in stored(where, run_id))
    told = runs(where)[0].data.tags["sweep.infinite"]
    assert told == "train/loss in 1 updates from 4, train/grad_norm in 1 updates from 5"


def test_names_and_values_beyond_mlflows_limits_are_mapped_and_marked(run: MakeRun, where: dict[str, Any]) -> None:
    odd = {"a,b": 1, "a;b": 2, "long": "x" * 9000, "nested": {"k": [1, None]}, "/../up": True}
    folder = run(status=None, params=odd, name="n" * 400, command="c" * 9000, sweep="it's odd")
    with Journal(folder) as journal:
        journal.write("scores", when="before", scores=[score("arc,easy", "acc,none", 0.5), score("é", "m" * 300, 1.0)])
        journal.write("scores", when="after", scores=[score("core8", "mean", 0.5), score("mmlu", "mean", 0.6)])
    assert project(folder, where) == project(folder, where)
    (found,) = runs(where)
    params = found.data.params
    assert (params["a_b"], params["a_b 2"], params["up"], params["nested"]) == ("1", "2", "true", '{"k": [1, null]}')
    assert params["long"].endswith("[cut, 9000 characters, whole in journal.jsonl]")
    assert "[cut, 9000 characters" in found.data.tags["mlflow.source.name"]
    assert "[cut, 400 characters" in found.info.run_name
    assert found.data.metrics["before/arc_easy.acc_none"] == 0.5
    assert (found.data.metrics["after/core8.mean"], found.data.metrics["after/mmlu.mean"]) == (0.5, 0.6)


def test_no_secret_reaches_mlflow_or_its_memory(run: MakeRun, where: dict[str, Any], tmp_path: Path) -> None:
    uri = "postgresql://me:hunter2@db/mlflow"
    project(run(params={"tracking.uri": uri}, command=f"sweep tracking.uri={uri}"), where)
    assert all(b"hunter2" not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())


def test_the_parent_has_every_child_and_survives_repetition(run: MakeRun, where: dict[str, Any]) -> None:
    one, two = run("one", key="k1", name="steps 1"), run("two", key="k2", name="steps 2", status=None)
    for folder in (one, two):
        project(folder, where)
    client = MlflowClient(where["tracking_uri"])
    parent = project_sweep(one.parent, where)
    assert client.get_run(parent).info.status == "RUNNING"
    assert {found.data.tags["mlflow.parentRunId"] for found in runs(where)} == {parent}
    assert len(runs(where)) == 2
    run("two", key="k2", name="steps 2", status="failed")
    assert [project_sweep(one.parent, where) for _ in range(2)] == [parent, parent]
    found = client.get_run(parent)
    assert found.info.status == "FAILED"
    note = found.data.tags["mlflow.note.content"]
    cells = "| steps 1 | 0.310 | 0.410 | +0.100 ± 0.010 | 4.200 | 4.000 | -0.200 ± 0.010 | 20,480 | finished |"
    assert cells in note
    assert "- steps 2: failed: ValueError: loss is nan" in note
    run("two", key="k2", name="steps 2", status="finished")
    project_sweep(one.parent, where)
    assert client.get_run(parent).info.status == "FINISHED"


HTML = "<img src=x onerror=alert(1)>|`a`\n**b**"


def test_a_name_is_no_markup_in_a_note(run: MakeRun, where: dict[str, Any]) -> None:
    """A folder may be called anything; the notes of its run and of its sweep show it, and a browser runs none of it."""
    folder = run(name=HTML, command=f"python -m sweep 'checkpoint.path={HTML}'", status="failed")
    project(folder, where)
    parent = project_sweep(folder.parent, where)
    (found,) = runs(where)
    for tags in (found.data.tags, MlflowClient(where["tracking_uri"]).get_run(parent).data.tags):
        note = tags["mlflow.note.content"]
        assert "<img" not in note and "**b**" not in note and "&#60;img src=x" in note
    table = [line for line in note.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and "onerror" in table[-1]


def test_runs_whose_names_read_alike_are_renamed_in_mlflow(run: MakeRun, where: dict[str, Any]) -> None:
    for d_model in (64, 128):
        params = {"model": "tiny-s", "model.source": "embedded", "model.architecture.d_model": d_model}
        folder = run(f"r{d_model}", key=f"k{d_model}", name="tiny-s@2000 linear 20", params=params)
        project(folder, where)
    parent = project_sweep(folder.parent, where)
    names = {f"tiny-s@2000 linear 20 model.architecture.d_model={d_model}" for d_model in (64, 128)}
    assert {found.info.run_name for found in runs(where)} == names
    note = MlflowClient(where["tracking_uri"]).get_run(parent).data.tags["mlflow.note.content"]
    assert all(f"| {name} |" in note for name in names)
    project(folder, where)
    assert {found.info.run_name for found in runs(where)} == names


def test_a_note_too_long_for_a_tag_is_whole_in_an_artifact(run: MakeRun, where: dict[str, Any]) -> None:
    for number in range(100):
        folder = run(f"r{number}", key=f"k{number}", name=f"point {number}", steps=0)
    parent = project_sweep(folder.parent, where)
    note = MlflowClient(where["tracking_uri"]).get_run(parent).data.tags["mlflow.note.content"]
    assert note.endswith("whole in the artifact note.md]")
    whole = next(where["artifact_root"].glob(f"**/{parent}/artifacts/note.md")).read_text()
    assert all(f"| point {number} |" in whole for number in range(100))


def test_a_run_somebody_else_is_projecting_is_left_to_them(
    run: MakeRun, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run()
    with projection.FileLock(folder / projection.LOCK), pytest.raises(TimeoutError):
        project(folder, where, within_s=0.2)
    assert runs(where) == []
    assert stored(where, project(folder, where)) == expected(folder)


def test_a_journal_without_an_attempt_is_refused(tmp_path: Path, where: dict[str, Any]) -> None:
    with Journal(tmp_path / "s" / "a"):
        pass
    with pytest.raises(ValueError, match="no attempt"):
        project(tmp_path / "s" / "a", where)
    assert sweeps.journals(tmp_path / "s") == {}


def test_time_that_is_over_is_gone_on_with(
    run: MakeRun, where: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_batches, "ENTITIES", 30)
    folder, ticks = run(), iter(range(1000))
    with monkeypatch.context() as patched:
        patched.setattr(projection.time, "monotonic", lambda: next(ticks))
        with pytest.raises(TimeoutError, match="next time"):
            project(folder, where, within_s=3)
    run_id = runs(where)[0].info.run_id
    assert 0 < len(stored(where, run_id)) < len(expected(folder))
    assert project(folder, where) == run_id
    assert stored(where, run_id) == expected(folder)


@pytest.mark.slow
def test_mlflow_is_quiet(run: MakeRun, where: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").unlink()
    code = KILLED.replace("left == 0", "False").replace("ENTITIES = 30", "ENTITIES = 1000")
    words = [sys.executable, "-c", code, str(run()), where["tracking_uri"], str(where["artifact_root"]), "0"]
    env = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env)
    assert (done.stdout, done.stderr) == ("", "")
