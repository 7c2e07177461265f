"""What a sweep varied, read off the params of its runs (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweep.tracking.events import Events
from sweep.tracking.mlflow_values import LOG10_PEAK, PEAK, peak

GROUPS = ("arm", "model", "tasks", "data", "anneal", "anneal.merge")
"""Params that decide others: `model.parameters` follows from `model`."""
PEAKS = ("anneal.peak_lr", "anneal.peak_scale")


def axes(runs: Sequence[Events]) -> dict[str, list[Any]]:
    """Param -> its levels in order, of every param that differs between the runs and doesn't follow from another.

    A peak that was swept, as a rate or as a scale, is there as the rate it came to too (`plan.peak_lr`).
    """
    tables = [{**run.attempts[0]["params"], **peak(run)} for run in runs]
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
    """Whether a param of the group (of the arm, any of the anneal's) has one value at each of the group's levels."""
    if not name.startswith("anneal" if group == "arm" else f"{group}."):
        return False
    return len(set(zip((_plain(t.get(group)) for t in tables), column, strict=True))) == len(
        {_plain(t.get(group)) for t in tables}
    )


def _plain(value: Any) -> Any:
    """Hashable."""
    return str(value) if isinstance(value, list | dict) else value


def _order(value: Any) -> tuple[int, float, str]:
    """None, numbers, then words."""
    if value is None:
        return 0, 0.0, ""
    return (1, float(value), "") if isinstance(value, int | float) else (2, 0.0, str(value))
