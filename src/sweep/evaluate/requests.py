"""The requests of a task: strings to score, and what records say of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TaskRequests:
    """The requests of one task; the tuples run over requests, documents in order and choices in order within them."""

    task: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    """Scored after the context, with the delimiter in front of it."""
    documents: tuple[int, ...]
    """Index of the document in the scored split; with subjects, counted on from one subject to the next."""
    choices: tuple[int, ...]
    characters: tuple[int, ...]
    """Of the continuation without the delimiter in front, as lm-eval divides by for acc_norm."""
    bytes: tuple[int, ...]
    """The same in UTF-8."""
    delimiters: tuple[int, ...]
    """Characters in front: 1 for a space."""
    gold: tuple[bool, ...]
    subjects: tuple[str, ...] | None = None
    """Part of the task that is averaged by itself; None: there are none."""
    unconditional: str | None = None
    """A context without the question, after which each continuation is scored too; None: it isn't."""
    greedy: bool = False
    """There is one continuation a document: what counts is whether each of its tokens is the likeliest."""


@dataclass(frozen=True)
class Request:
    """One choice of one document."""

    document: int
    choice: int
    context: str
    continuation: str
    gold: bool
    subject: str | None = None
    delimiter: str = " "
    """Between context and choice; the beginning of `continuation`, but no part of the choice."""


def task_requests(
    task: str, requests: list[Request], *, unconditional: str | None = None, greedy: bool = False
) -> TaskRequests:
    """The requests of a task, with the lengths of their choices."""
    scored = [request.continuation.removeprefix(request.delimiter) for request in requests]
    return TaskRequests(
        task=task,
        contexts=tuple(request.context for request in requests),
        continuations=tuple(request.continuation for request in requests),
        documents=tuple(request.document for request in requests),
        choices=tuple(request.choice for request in requests),
        characters=tuple(len(text) for text in scored),
        bytes=tuple(len(text.encode()) for text in scored),
        delimiters=tuple(len(r.continuation) - len(text) for r, text in zip(requests, scored, strict=True)),
        gold=tuple(request.gold for request in requests),
        subjects=tuple(r.subject or "" for r in requests) if requests[0].subject is not None else None,
        unconditional=unconditional,
        greedy=greedy,
    )
