"""Scoring: tasks -> requests -> pack -> log-likelihoods -> records -> scores."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sweep.config.tasks import HELDOUT
from sweep.evaluate.aggregates import aggregate_deltas, aggregates, chance_of
from sweep.evaluate.heldout import heldout_pack
from sweep.evaluate.pack import TOKEN_BUDGET, Likelihoods, Pack, prepare
from sweep.evaluate.protocols import load_task, protocol
from sweep.evaluate.record_files import read_records, records_table, write_records
from sweep.evaluate.requests import TaskRequests
from sweep.evaluate.scores import deltas, scores

if TYPE_CHECKING:
    from sweep.evaluate.engine import likelihoods, log_likelihoods
    from sweep.evaluate.matmul import library
    from sweep.evaluate.transformer import Body

__all__ = [
    "HELDOUT",
    "TOKEN_BUDGET",
    "Body",
    "Likelihoods",
    "Pack",
    "TaskRequests",
    "aggregate_deltas",
    "aggregates",
    "chance_of",
    "deltas",
    "heldout_pack",
    "library",
    "likelihoods",
    "load_task",
    "log_likelihoods",
    "prepare",
    "protocol",
    "read_records",
    "records_table",
    "scores",
    "write_records",
]

# a run whose scores are all in the store loads neither lm-eval nor torch
_LATE = {"Body": "transformer", "library": "matmul", "likelihoods": "engine", "log_likelihoods": "engine"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
