"""Scoring: tasks -> requests -> pack -> log-likelihoods -> records -> scores.

This file is light. What loads torch is imported from its module: `engine`, `transformer`, `matmul`, `lm_eval_model`.
"""

from sweep.config.tasks import HELDOUT
from sweep.evaluate.aggregates import aggregate_deltas, aggregates, chance_of
from sweep.evaluate.heldout import TextDocuments, heldout_pack
from sweep.evaluate.pack import TOKEN_BUDGET, Likelihoods, Pack, make_pack
from sweep.evaluate.protocols import finished_records, load_task, protocol
from sweep.evaluate.record_files import read_records, records_table, write_records
from sweep.evaluate.requests import TaskRequests
from sweep.evaluate.scores import deltas, scores

__all__ = [
    "HELDOUT",
    "TOKEN_BUDGET",
    "Likelihoods",
    "Pack",
    "TaskRequests",
    "TextDocuments",
    "aggregate_deltas",
    "aggregates",
    "chance_of",
    "deltas",
    "finished_records",
    "heldout_pack",
    "load_task",
    "make_pack",
    "protocol",
    "read_records",
    "records_table",
    "scores",
    "write_records",
]
