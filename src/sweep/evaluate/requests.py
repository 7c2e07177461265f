"""The requests of a task: texts to score, and what records say of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.config.tasks import Task

UNCONDITIONAL_CONTEXT = "Answer:"
"""The context without the question in Catwalk and OLMES."""


@dataclass(frozen=True, kw_only=True)
class TaskRequests:
    """The requests of one task, column by column: one entry per choice, in the order of documents and choices."""

    task: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    """The texts that are scored after the context; each begins with the delimiter."""
    documents: tuple[int, ...]
    """Index of the document in the scored split. Subjects are counted on, one after another."""
    choices: tuple[int, ...]
    characters: tuple[int, ...]
    """Length of the continuation without the delimiter, by which lm-eval divides for acc_norm."""
    bytes: tuple[int, ...]
    """The same length in UTF-8."""
    delimiters: tuple[int, ...]
    """Length of the delimiter in characters: 1 for a space."""
    gold: tuple[bool, ...]
    subjects: tuple[str, ...] | None = None
    """The part of the task that is averaged by itself; None: the task has no parts."""
    unconditional: str | None = None
    """A context without the question, after which each continuation is scored as well; None: it is not."""
    greedy: bool = False
    """Whether it is asked if all tokens of a continuation are the likeliest ones."""
    rolling: bool = False
    """Whether the continuations are whole texts, which are scored in windows of the model's length."""
    separate: bool = False
    """Whether context and continuation are tokenised each by itself, and nothing is moved from one to the other."""


@dataclass(frozen=True)
class ChoiceRequest:
    """One choice of one document."""

    document: int
    choice: int
    context: str
    continuation: str
    gold: bool
    subject: str | None = None
    delimiter: str = " "
    """Stands between context and choice: the beginning of `continuation`, but no part of the choice."""


def task_requests(
    task: Task,
    requests: Sequence[ChoiceRequest],
    *,
    greedy: bool = False,
    rolling: bool = False,
    separate: bool = False,
) -> TaskRequests:
    """The requests of a task, with the lengths of their choices."""
    choice_texts = [request.continuation.removeprefix(request.delimiter) for request in requests]
    return TaskRequests(
        task=task.name,
        contexts=tuple(request.context for request in requests),
        continuations=tuple(request.continuation for request in requests),
        documents=tuple(request.document for request in requests),
        choices=tuple(request.choice for request in requests),
        characters=tuple(len(text) for text in choice_texts),
        bytes=tuple(len(text.encode()) for text in choice_texts),
        delimiters=tuple(len(r.continuation) - len(text) for r, text in zip(requests, choice_texts, strict=True)),
        gold=tuple(request.gold for request in requests),
        subjects=tuple(r.subject or "" for r in requests) if requests[0].subject is not None else None,
        unconditional=UNCONDITIONAL_CONTEXT if task.unconditional else None,
        greedy=greedy,
        rolling=rolling,
        separate=separate,
    )
