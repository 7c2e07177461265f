"""What a person chose: one frozen tree, validated once at the door; every refusal names key, value and what is allowed.

The fields' dotted names are the YAML keys, the overrides, the MLflow params and the axis labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator

from sweep.config.anneal import Anneal
from sweep.config.frozen import frozen
from sweep.config.model import Checkpoint, Model, check_on_trajectory
from sweep.refusal import Refusal, at_least, explain, one_of

__all__ = [
    "CORE8",
    "METRICS",
    "Anneal",
    "Checkpoint",
    "Compute",
    "Data",
    "Model",
    "RunConfig",
    "Tasks",
    "Tracking",
    "load",
    "params",
    "tree",
]

CORE8 = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "winogrande")
"""The 8 core tasks of the OLMo paper (arXiv 2402.00838, sec. 4)."""

METRICS = ("acc", "acc_norm")


@frozen
class Data:
    """What it is annealed on."""

    name: str
    paths: tuple[str, ...] | None
    """Raw token memmaps; None: those the checkpoint was trained on."""
    dtype: Literal["uint16", "uint32"] | None
    """Of the memmaps; None: as the checkpoint's configuration says."""
    heldout: str | None
    """Folder with held-out documents; None: the embedded corpus's own, and none for other checkpoints."""
    tokenizer: str | None
    """A `tokenizer.json`; None: the checkpoint's own."""


@frozen
class Tasks:
    """What it is scored on, before and after."""

    name: str
    metrics: dict[str, str]
    """Task -> the metric that enters the mean over the tasks."""
    limit: int | None
    """Score only the first so many documents of each task; None: all."""
    heldout: bool
    """Also score the held-out documents: loss and bits per byte."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: dict[str, str]) -> dict[str, str]:
        for task, metric in metrics.items():
            one_of(task, CORE8)
            one_of(metric, METRICS)
        return metrics

    @field_validator("limit")
    @classmethod
    def _at_least_two(cls, limit: int | None) -> int | None:
        if limit is not None and limit < 2:
            raise ValueError("must be at least 2 (a standard error needs two documents), or null for all")
        return limit


@frozen
class Tracking:
    """Where outcomes are shown."""

    name: str
    uri: str | None
    """MLflow tracking URI; None: MLFLOW_TRACKING_URI, else a local SQLite file beside the runs."""
    experiment: str
    enabled: bool


@frozen
class Compute:
    """On what it runs."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int
    """A number and not the machine's cores, so that the same configuration gives the same bits."""

    @field_validator("threads")
    @classmethod
    def _at_least_one(cls, threads: int) -> int:
        return at_least(1, threads)


@frozen
class RunConfig:
    """One point of a sweep."""

    name: str
    """The sweep this run belongs to: its folder under multirun/ and its parent run in MLflow."""
    seed: int
    """0: the original data order; others put the instances not yet seen in another order, to measure noise."""
    model: Model
    checkpoint: Checkpoint
    data: Data
    anneal: Anneal
    tasks: Tasks
    tracking: Tracking
    compute: Compute

    @field_validator("seed")
    @classmethod
    def _not_negative(cls, seed: int) -> int:
        return at_least(0, seed)

    @model_validator(mode="after")
    def _checkpoint_fits_model(self) -> RunConfig:
        step, path = self.checkpoint.step, self.checkpoint.path
        if self.model.source == "local" and path is None:
            raise ValueError("model=local needs checkpoint.path, the folder of an OLMo unsharded checkpoint")
        if self.model.source == "embedded":
            if path is not None:
                raise ValueError(f"checkpoint.path={path} goes with model=local, not with model={self.model.name}")
            check_on_trajectory(self.model, step)
        return self


def load(plain: Mapping[str, Any]) -> RunConfig:
    """The typed configuration of a plain tree; Refusal listing everything that is wrong with it."""
    try:
        return TypeAdapter(RunConfig).validate_python(plain)
    except ValidationError as error:
        raise Refusal("\n".join(explain(problem) for problem in error.errors())) from None


def tree(choices: Any) -> dict[str, Any]:
    """The plain tree that `load` made these choices of."""
    return dataclasses.asdict(choices)


def params(config: RunConfig) -> dict[str, Any]:
    """Dotted name -> value of every choice that a table or MLflow shows, `name` leaves under their group's name."""
    shown: dict[str, Any] = {"model": config.model.name, "seed": config.seed}
    shown["model.parameters"] = config.model.parameters
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in vars(getattr(config, group)).items():
            shown[group if field == "name" else f"{group}.{field}"] = value
    return shown
