"""The configuration as plain values: the tree of all choices, and the flat table that MLflow and reports show."""

from __future__ import annotations

import dataclasses
from typing import Any

from sweep.config.run_config import RunConfig


def tree(choices: Any) -> dict[str, Any]:
    """The plain tree that `load` made these choices of."""
    return dataclasses.asdict(choices)


def params(config: RunConfig) -> dict[str, Any]:
    """Dotted name -> value of every choice that is shown; the `name` of a group is under the group's own name."""
    shown: dict[str, Any] = {
        "model": config.model.name,
        "arm": config.anneal.arm,
        "tasks": config.tasks.name,
        "seed": config.seed,
        "model.parameters": config.model.parameters,
    }
    if config.model.published is not None and config.model.published.recipe is not None:
        shown |= {"model.recipe": config.model.published.recipe, "model.run": config.model.published.run}
    for group in ("checkpoint", "data", "anneal", "tasks", "compute"):
        for field, value in tree(getattr(config, group)).items():
            shown |= _leaves(group if field == "name" else f"{group}.{field}", value)
    for name in ("anneal.merge", "data.sources"):
        if shown.get(name, "") is None:
            del shown[name]
    return shown


def _leaves(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: v for key, below in value.items() for leaf, v in _leaves(f"{name}.{key}", below).items()}
