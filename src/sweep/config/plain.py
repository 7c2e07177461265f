"""The configuration as plain values: the tree of all choices, and the flat table that MLflow and reports show."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from sweep.config.run_config import RunConfig


def tree(choices: Any) -> dict[str, Any]:
    """The plain tree that `load` made these choices of."""
    return {name: _plain(getattr(choices, name)) for name in _field_names(choices.__class__)}


def _plain(value: Any) -> Any:
    """As dataclasses.asdict does it, without copying what can't be changed, which takes ten times as long."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    return tree(value) if dataclasses.is_dataclass(value) else value


@functools.cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


UNSHOWN = (
    "resources",
    "published.cite",
    "published.data",
    "published.steps",
    "published.recipes",
    "published.known_lrs",
)
"""Leaves of `model` that are no params: they describe a model, list what there is of it, or only size its jobs."""
OPTIONAL = (
    "anneal.merge",
    "checkpoint.repo",
    "checkpoint.revision",
    "data.sources",
    "model.architecture",
    "model.pretraining",
    "model.published",
)
"""Groups and leaves that some options lack: such an option has none of them."""


def params(config: RunConfig) -> dict[str, Any]:
    """Dotted name -> value of every choice that is shown; the `name` of a group is under the group's own name."""
    shown: dict[str, Any] = {
        "model": config.model.name,
        "arm": config.anneal.arm,
        "tasks": config.tasks.name,
        "seed": config.seed,
        "model.parameters": config.model.parameters,
    }
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in tree(getattr(config, group)).items():
            shown |= _leaves(group if field == "name" else f"{group}.{field}", value)
    shown |= model_params(tree(config.model))
    return {name: value for name, value in shown.items() if value is not None or name not in OPTIONAL}


def model_params(model: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a model, from its plain tree."""
    leaves = {name: value for field, below in model.items() for name, value in _leaves(field, below).items()}
    hidden = tuple(f"{name}." for name in UNSHOWN)
    shown = {name: value for name, value in leaves.items() if not f"{name}.".startswith(hidden)}
    named = {"model" if name == "name" else f"model.{name}": value for name, value in shown.items()}
    return {name: value for name, value in named.items() if value is not None or name not in OPTIONAL}


def _leaves(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: v for key, below in value.items() for leaf, v in _leaves(f"{name}.{key}", below).items()}
