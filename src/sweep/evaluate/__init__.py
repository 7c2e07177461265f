"""Scoring: tasks -> requests -> pack -> log-likelihoods -> records -> scores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sweep.evaluate.heldout import heldout_pack
from sweep.evaluate.pack import Pack, prepare
from sweep.evaluate.protocols import protocol
from sweep.evaluate.scores import HELDOUT, deltas, mean, read_records, records_table, scores, write_records

if TYPE_CHECKING:
    from sweep.evaluate.engine import log_likelihoods
    from sweep.evaluate.tasks import TaskRequests, load_task

__all__ = [
    "HELDOUT",
    "Pack",
    "TaskRequests",
    "deltas",
    "heldout_pack",
    "load_task",
    "log_likelihoods",
    "mean",
    "prepare",
    "protocol",
    "read_records",
    "records_table",
    "scores",
    "write_records",
]

# a run whose scores are all in the store loads neither lm-eval nor torch
_LATE = {"load_task": "tasks", "TaskRequests": "tasks", "log_likelihoods": "engine"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
