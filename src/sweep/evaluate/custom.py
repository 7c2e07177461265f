"""A user's own tasks: any likelihood task or group of lm-eval, or of a folder, scored by lm-eval's own code."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from sweep.config.tasks import CHOICE_METRICS, CONTINUATION_METRICS, Task
from sweep.domain import cache_versions
from sweep.domain.cache_versions import OWN_METRICS
from sweep.domain.digests import digest
from sweep.domain.errors import Refusal
from sweep.evaluate.lm_eval_private import give_also, listed_metrics, take_away
from sweep.evaluate.lm_eval_tasks import asked_of
from sweep.evaluate.own_metrics import ScoredDocument, facts_of, metrics_of
from sweep.evaluate.record_files import OwnMetrics
from sweep.evaluate.requests import ChoiceRequest, TaskRequests, task_requests
from sweep.evaluate.scores import LM_EVALS
from sweep.system.json_lines import check_json_lines
from sweep.system.task_files import Versions, read_definition

OUR_METRICS: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": CHOICE_METRICS,
    "loglikelihood": CONTINUATION_METRICS,
    "loglikelihood_rolling": (),
}
"""The kinds of lm-eval's tasks that can be scored here, and the metrics that our own formulas give each."""
ALWAYS = ("acc", "acc_norm", "acc_bytes")
"""Metrics of every multiple-choice task, by lm-eval's formulas, also where its definition doesn't list them."""
IF_CHOSEN = ("acc_mutual_info", "exact_match", "f1", "mcc")
"""Further metrics of lm-eval's: a task that doesn't list one has it where it is the chosen metric."""
MUTUAL = "acc_mutual_info"

OF_A_DEFINITION = (IndexError, KeyError, TypeError, AttributeError, AssertionError, UndefinedError)
"""What lm-eval raises when it tries a definition on its first row, and the two don't fit together."""


@dataclass(frozen=True, kw_only=True)
class CustomTask:
    """A custom task, ready to be asked and scored."""

    requests: TaskRequests
    documents: tuple[ScoredDocument, ...]
    facts: OwnMetrics

    @property
    def scored_by(self) -> list[Any]:
        """All that decides lm-eval's metrics besides the answers, and a person's files of code; ready for a digest."""
        rows = [[document.definition.task_name, repr(document.row)] for document in self.documents]
        listed = {d.definition.task_name: _named(d.definition.config.metric_list) for d in self.documents}
        return [OWN_METRICS, cache_versions.wheels()["lm-eval"], dataclasses.asdict(self.facts), listed, digest(rows)]


def _named(listed: Any) -> str:
    """A list of metrics as text, in which functions have their names."""
    return repr([{k: getattr(v, "__qualname__", v) for k, v in metric.items()} for metric in listed or ()])


@functools.cache
def load_custom(task: Task, versions: Versions = ()) -> CustomTask:
    """lm-eval's task or group of that name. The tasks of a group are its subjects.

    `versions` are those of the files in `tasks.include`: what was loaded is kept while they stay the same.

    Refusal if there is no such task, it needs generated text, its few-shot examples would be scored documents, its data
    cannot be had, lm-eval's code can't score it, or it doesn't have the chosen metric.
    """
    if task.source == "wheel":
        raise Refusal(
            f"tasks.source=wheel: {task.name} is lm-eval's own way to its data; allowed with tasks=custom: auto, hub"
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    loaded = _load(task, versions)
    definitions = list(loaded["tasks"].values())
    for definition in definitions:
        _configure(definition, task)
    if len({definition.OUTPUT_TYPE for definition in definitions}) > 1:
        raise Refusal(f"tasks.suites.custom.metrics.{task.name}: its tasks are of several kinds; name them one by one")
    is_group = len(definitions) > 1
    requests: list[ChoiceRequest] = []
    documents: list[ScoredDocument] = []
    for definition, row, asked in asked_of([(d.task_name if is_group else None, d) for d in definitions], task):
        requests += asked
        twice = MUTUAL in listed_metrics(definition)
        documents.append(ScoredDocument(definition, row, len(asked) * (2 if twice else 1)))
    facts = facts_of(task.name, loaded.get("groups", {}), documents)
    _check_metric(task, definitions[0].OUTPUT_TYPE, requests, documents, facts)
    return CustomTask(requests=_requests(task, definitions, requests), documents=tuple(documents), facts=facts)


def _requests(task: Task, definitions: Sequence[Any], requests: Sequence[ChoiceRequest]) -> TaskRequests:
    kind = definitions[0].OUTPUT_TYPE
    asks = any(callable(d.config.process_results) or "exact_match" in listed_metrics(d) for d in definitions)
    made = task_requests(
        task, requests, greedy=kind == "loglikelihood" or asks, rolling=kind == "loglikelihood_rolling"
    )
    if any(MUTUAL in listed_metrics(definition) for definition in definitions):
        made = dataclasses.replace(made, unconditional="")
    return made


def _check_metric(
    task: Task,
    kind: str,
    requests: Sequence[ChoiceRequest],
    documents: Sequence[ScoredDocument],
    facts: OwnMetrics,
) -> None:
    """Refusal unless the chosen metric is one of lm-eval's for the task, or one that our formulas give."""
    key = f"tasks.suites.custom.metrics.{task.name}"
    allowed = dict.fromkeys(metrics_of(documents, key))
    golds = Counter(request.document for request in requests if request.gold)
    if len(golds) == len(documents) and set(golds.values()) <= {1}:
        hidden = LM_EVALS if facts.hides == "lm-eval's" else ()
        allowed |= dict.fromkeys(metric for metric in OUR_METRICS[kind] if metric not in hidden)
    if task.metric not in allowed:
        raise Refusal(f"{key}={task.metric}: {task.name} is a {kind} task; allowed: {', '.join(allowed)}")


def _load(task: Task, versions: Versions) -> Mapping[str, Any]:
    """lm-eval's tasks and groups by name; the user's folder alone is read if it has them, as lm-eval's take seconds."""
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
        loaded: Mapping[str, Any] = manager.load([task.name])
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
    return loaded


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
    """Set the number of examples, the split and what lm-eval computes; Refusal if the task cannot be scored here."""
    key, name, kind = f"tasks.suites.custom.metrics.{task.name}", definition.task_name, definition.OUTPUT_TYPE
    if kind not in OUR_METRICS or not isinstance(definition, ConfigurableTask):
        raise Refusal(
            f"{key}: {name} is a {kind} task; {', '.join(OUR_METRICS)} ones can be scored; "
            "run lm-eval itself for the others"
        )
    config = definition.config
    if config.filter_list is not None:
        raise Refusal(f"{key}: {name} has a filter_list, which likelihoods don't go through here; take it out")
    _choose_metrics(definition, task)
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


def _choose_metrics(definition: Any, task: Task) -> None:
    """What lm-eval's own formulas compute for a multiple-choice task without code of its own."""
    if definition.OUTPUT_TYPE != "multiple_choice":
        return
    if task.unconditional:  # the records hold one log-probability without the question: that after `Answer:`
        take_away(definition, MUTUAL)
    if not callable(definition.config.process_results):
        give_also(definition, [*ALWAYS, *(metric for metric in IF_CHOSEN if metric == task.metric)])
    if definition.multiple_input and MUTUAL in listed_metrics(definition):
        raise Refusal(
            f"tasks.suites.custom.metrics.{task.name}: {definition.task_name} has its choices in the context and asks "
            f"for {MUTUAL}, which lm-eval asks without a context: give it another metric"
        )
