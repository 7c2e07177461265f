"""What a person chose: one frozen tree, validated once at the door; every refusal names key, value and what is allowed.

The fields' dotted names are the YAML keys, the overrides, the MLflow params and the axis labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError, field_validator, model_validator

from sweep.config.anneal import Anneal
from sweep.config.compute import Compute
from sweep.config.data import Data
from sweep.config.frozen import frozen
from sweep.config.model import Checkpoint, Model, check_on_trajectory
from sweep.config.tasks import CORE8, METRICS, Suite, Task, Tasks
from sweep.refusal import Refusal, at_least, explain

__all__ = [
    "CORE8",
    "METRICS",
    "Anneal",
    "Checkpoint",
    "Compute",
    "Data",
    "Model",
    "RunConfig",
    "Suite",
    "Task",
    "Tasks",
    "Tracking",
    "load",
    "params",
    "tree",
]


@frozen
class Tracking:
    """Where outcomes are shown."""

    name: str
    uri: str | None
    """MLflow tracking URI; None: MLFLOW_TRACKING_URI, else a local SQLite file beside the runs."""
    experiment: str
    enabled: bool


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
    shown: dict[str, Any] = {"model": config.model.name, "tasks": config.tasks.name, "seed": config.seed}
    shown["model.parameters"] = config.model.parameters
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in tree(getattr(config, group)).items():
            shown[group if field == "name" else f"{group}.{field}"] = value
    return shown
