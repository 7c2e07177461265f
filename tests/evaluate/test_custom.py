"""A user's own lm-eval tasks: scored as lm-eval would, or refused before anything runs."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from sweep.config import Task
from sweep.domain.errors import Refusal
from sweep.evaluate import custom, load_task, protocol
from sweep.planning.names import run_key
from tests.composing import composed

ROWS = [
    {"question": f"What is {n} and {n}?", "choices": [str(2 * n), str(2 * n + 1), "many"], "answer": 0}
    for n in range(1, 9)
]
CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{validation: {data}, train: {data}}}}}
output_type: multiple_choice
validation_split: validation
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{{metric: acc}}]
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    custom._manager.cache_clear()
    custom.load_custom.cache_clear()


@pytest.fixture
def include(tmp_path: Path) -> Path:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    folder = tmp_path / "tasks"
    folder.mkdir()
    text = CHOICE.format(name="sums", data=data)
    (folder / "sums.yaml").write_text(text)
    (folder / "shots.yaml").write_text(text.replace("task: sums", "task: shots") + "training_split: train\n")
    (folder / "no_space.yaml").write_text(text.replace("task: sums", "task: no_space") + 'target_delimiter: ""\n')
    rest = text.replace("multiple_choice", "loglikelihood").replace(
        "doc_to_target: answer", 'doc_to_target: "{{choices[0]}}"'
    )
    (folder / "rest.yaml").write_text(rest.replace("task: sums", "task: rest").replace("doc_to_choice: choices\n", ""))
    told = text.replace("multiple_choice", "generate_until").replace("doc_to_choice: choices\n", "")
    (folder / "told.yaml").write_text(
        told.replace("task: sums", "task: told").replace("metric: acc", "metric: exact_match")
    )
    (folder / "gone.yaml").write_text(text.replace("task: sums", "task: gone").replace(str(data), str(data) + ".gone"))
    (folder / "wrong.yaml").write_text(text.replace("task: sums", "task: wrong").replace("answer", "question"))
    (folder / "blank.jsonl").write_text(json.dumps({**ROWS[0], "choices": ["", "1"]}) + "\n")
    blank = text.replace(str(data), str(folder / "blank.jsonl"))
    (folder / "empty.yaml").write_text(blank.replace("task: sums", "task: empty"))
    (folder / "both.yaml").write_text("group: both\ntask: [sums, no_space]\n")
    return folder


def own(name: str, include: Path | None, **more: Any) -> Task:
    where = None if include is None else str(include)
    return Task(name=name, protocol="custom", **{"split": None, "num_fewshot": None, "include": where} | more)


def test_a_task_of_ones_own(include: Path) -> None:
    task = load_task(own("sums", include, limit=3))
    assert task.contexts[:3] == ("Q: What is 1 and 1?\nA:",) * 3
    assert task.continuations[:3] == (" 2", " 3", " many")
    assert task.gold == (True, False, False) * 3
    assert set(task.delimiters) == {1} and task.characters[2] == 4


def test_what_is_in_front_of_a_choice_is_the_tasks(include: Path) -> None:
    task = load_task(own("no_space", include))
    assert task.continuations[2] == "many"
    assert set(task.delimiters) == {0} and task.characters[2] == 4


def test_one_continuation_a_document_asks_for_the_likeliest_tokens(include: Path) -> None:
    task = load_task(own("rest", include))
    assert task.greedy and all(task.gold) and task.documents == tuple(range(8))


def test_a_groups_tasks_are_its_subjects(include: Path) -> None:
    task = load_task(own("both", include))
    assert sorted(set(task.subjects or ())) == ["no_space", "sums"]
    assert len(set(task.documents)) == 16
    in_front = dict(zip(task.subjects or (), task.delimiters, strict=True))
    assert in_front == {"no_space": 0, "sums": 1}
    assert {task.characters[choice] for choice in range(2, 48, 3)} == {len("many")}


def test_examples_are_those_that_lm_eval_shows(include: Path) -> None:
    from lm_eval.tasks import TaskManager

    (theirs,) = TaskManager(include_path=str(include), include_defaults=False).load(["shots"])["tasks"].values()
    theirs.set_config(key="num_fewshot", value=2)
    theirs.set_fewshot_seed(1234)
    theirs.build_all_requests(limit=4)
    task = load_task(own("shots", include, num_fewshot=2, limit=4))
    assert list(zip(task.contexts, task.continuations, strict=True)) == [i.args for i in theirs.instances]
    assert task.contexts[0].count("Q:") == 3


def test_its_name_is_that_of_its_requests(include: Path) -> None:
    before = protocol(own("sums", include))
    text = (include / "sums.yaml").read_text()
    (include / "sums.yaml").write_text(text.replace("Q:", "Question:"))
    custom._manager.cache_clear()
    custom.load_custom.cache_clear()
    from sweep.evaluate import protocols

    protocols._custom.cache_clear()
    assert protocol(own("sums", include)) != before


@pytest.mark.parametrize(
    ("name", "more", "complaint"),
    [
        ("told", {}, "told is a generate_until task; multiple_choice, loglikelihood, loglikelihood_rolling ones"),
        ("gone", {}, r"gone: its data can't be read: .*rows\.jsonl\.gone is not there"),
        ("wrong", {}, "without one right choice"),
        ("empty", {}, r"metrics\.empty: lm-eval can't use this definition .* has each choice a character"),
        ("sums", {"num_fewshot": 2}, "neither a training nor a few-shot split.*allowed: 0"),
        ("sums", {"split": "test"}, r"tasks\.suites\.custom\.split=test: sums has no such split"),
        ("sums", {"metric": "perplexity"}, r"sums=perplexity: sums is a multiple_choice task; allowed: acc, acc_norm"),
        ("rest", {"metric": "acc_norm"}, "rest=acc_norm: rest is a loglikelihood task; allowed: acc, perplexity"),
        ("sums", {"source": "wheel"}, r"tasks\.source=wheel.*auto, hub"),
    ],
)
def test_it_is_refused(name: str, more: dict[str, Any], complaint: str, include: Path) -> None:
    with pytest.raises(Refusal, match=complaint):
        load_task(own(name, include, **more))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"tasks\.include=.*nowhere is not a folder"):
        load_task(own("sums", tmp_path / "nowhere"))


@pytest.mark.slow
def test_an_unknown_name_is_refused_with_a_near_one(include: Path) -> None:
    with pytest.raises(Refusal, match=r"custom\.metrics\.hellaswga is neither in.*near: hellaswag"):
        load_task(own("hellaswga", include))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.jsonl", lambda good: good[:-9], r"rows\.jsonl, line 8 is not JSON"),
        ("rows.jsonl", lambda good: b"{\n" + good, r"rows\.jsonl, line 1 is not JSON"),
        ("rows.jsonl.gz", lambda good: gzip.compress(good)[:-12], r"rows\.jsonl\.gz, after line \d: .* is cut"),
    ],
)
def test_a_data_file_that_is_cut_is_named_with_its_line(
    include: Path, name: str, content: Callable[[bytes], bytes], complaint: str
) -> None:
    good = include.parent / "rows.jsonl"
    data = include.parent / f"cut-{name}"
    data.write_bytes(content(good.read_bytes()))
    definition = (include / "sums.yaml").read_text().replace("task: sums", "task: cut").replace(str(good), str(data))
    (include / "cut.yaml").write_text(definition)
    with pytest.raises(Refusal, match=rf"metrics\.cut: its data can't be read: .*{complaint}"):
        protocol(Task(name="cut", protocol="custom", split=None, num_fewshot=0, include=str(include)))


def rewritten(file: Path, old: str, new: str) -> None:
    """The file with other content, and another time of change."""
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000))


def test_every_file_that_decides_a_score_is_in_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    defs, beside = tmp_path / "defs", tmp_path / "shared"
    defs.mkdir(), beside.mkdir()
    (beside / "base.yaml").write_text(CHOICE.format(name="base", data="rows.jsonl"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (defs / "asked.py").write_text("def text(doc):\n    return 'Q: ' + doc['question']\n")
    (defs / "sums.yaml").write_text("include: ../shared/base.yaml\ntask: sums\ndoc_to_text: !function asked.text\n")
    words = ("tasks=custom", f"tasks.include={defs}", "+tasks.suites.custom.metrics.sums=acc", "anneal=none")
    keys, asked = [run_key(composed(*words))], [protocol(own("sums", defs))]
    for file, old, new in (
        (tmp_path / "rows.jsonl", '"answer": 0', '"answer": 1'),
        (beside / "base.yaml", "doc_to_target: answer", "doc_to_target: 1"),
        (defs / "asked.py", "Q: ", "Now: "),
    ):
        rewritten(file, old, new)
        keys.append(run_key(composed(*words)))
        asked.append(protocol(own("sums", defs)))
        assert len(set(keys)) == len(keys), f"{file.name}: another run"
    (tmp_path / "unrelated.jsonl").touch()
    assert run_key(composed(*words)) == keys[-1]
    assert len(set(asked)) == 3, "in one process: new answers and new questions are other requests"
