"""Finds out what a sweep varied from the params of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.tracking.events import Events, params_of
from sweep.tracking.mlflow_values import LOG10_PEAK, PEAK, peak

GROUPS = ("arm", "model", "tasks", "data", "anneal", "anneal.merge")
"""Params that others follow from: `model.parameters` follows from `model`."""
PEAKS = ("anneal.peak_lr", "anneal.peak_scale")


def axes(runs: Sequence[Events]) -> dict[str, list[Any]]:
    """Param -> its values in order, of each param that differs between the runs and does not follow from another.

    If the peak was varied, as a rate or as a scale, the resulting rate `plan.peak_lr` is an axis too.
    """
    tables = [{**params_of(run.attempts[0]), **peak(run)} for run in runs]
    varied: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        column = [_plain(table.get(name)) for table in tables]
        levels = list(dict.fromkeys(column))
        if len(levels) > 1 and not any(_follows(name, column, group, tables) for group in varied if group in GROUPS):
            varied[name] = sorted(levels, key=_order)
    if not any(name in varied for name in PEAKS):
        varied.pop(PEAK, None)
    varied.pop(LOG10_PEAK, None)
    return varied


def _follows(name: str, column: list[Any], group: str, tables: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a param of the group has one value for each of the group's values; an arm decides all of anneal."""
    if not name.startswith("anneal" if group == "arm" else f"{group}."):
        return False
    return len(set(zip((_plain(t.get(group)) for t in tables), column, strict=True))) == len(
        {_plain(t.get(group)) for t in tables}
    )


def _plain(value: Any) -> Any:
    """The value in a form that can be a key."""
    return str(value) if isinstance(value, list | dict) else value


def _order(value: Any) -> tuple[int, float, str]:
    """Sorting key: None, then numbers, then words."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))
