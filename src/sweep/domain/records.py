"""Results: frozen records of plain values, which fit JSON and Parquet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Position:
    """The place in its training that a checkpoint itself states."""

    step: int
    """Optimizer updates done."""
    epoch: int
    """Epoch of the data order, from 0."""
    instances: int
    """Instances of this epoch that are already consumed."""
    tokens: int
    """Tokens seen in the whole training."""
    lr: float
    """Current LR, from the optimizer's `param_groups`; 0 without an optimizer."""
    batch_size: int
    """Instances per update."""
    sequence_length: int
    """Tokens per instance."""
    data_seed: int
    """Seed of the data order: epoch e is shuffled by PCG64(data_seed + e)."""
    max_grad_norm: float | None
    """Bound of the gradient norm in the training; None: no clipping."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer update, measured."""

    update: int
    """Number of updates since the checkpoint, from 1."""
    lr: float
    loss: float
    """The training objective as OLMo counts it: summed cross-entropy in nats over all B*T input tokens of the batch."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    param_norm: float
    """L2 norm of all parameters after the update."""
    tokens: int
    """Tokens consumed since the checkpoint, with this update's."""
    seconds: float
    """Wall seconds of this update; only this field may differ between two equal runs."""
    update_norm: float | None = None
    """L2 norm of the change of all parameters in this update; None: not measured at this update."""
    skipped: bool = False
    """Whether the training's own rule left this update out; its batch is consumed."""


@dataclass(frozen=True, kw_only=True)
class ChoiceRecord:
    """One row of a score's `records.parquet`: a choice of a task's document, or a held-out document."""

    document: int
    """Index in the scored split."""
    choice: int
    """Index of the choice; 0 for held-out text."""
    log_probability: float
    """Natural-log probability of the continuation given its context, summed over its tokens."""
    tokens: int
    """Tokens of the continuation."""
    characters: int
    """Characters of the choice as lm-eval counts them: without the leading space."""
    bytes: int
    """UTF-8 bytes of the choice, without the leading space."""
    gold: bool
    """Whether this choice is the right one; true for held-out text."""
    delimiter: int = 1
    """Characters in front of the choice that `characters` and `bytes` don't count: 1 for a space."""
    unconditional_log_probability: float | None = None
    """Log-probability of the choice after only "Answer:"; None: the task's metric doesn't need it."""
    greedy: bool | None = None
    """Whether every token was the most likely one; None: the task's metric doesn't need it."""
    subject: str | None = None
    """Subject of the document, whose mean enters the task's mean; None: the task has no subjects."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of one task, with its standard error over documents."""

    task: str
    metric: str
    value: float
    stderr: float
    documents: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a run."""

    tokens: int
    """Tokens annealed."""
    flops: float
    """Model floating-point operations of the anneal."""
    anneal_s: float
    """Seconds of all updates behind the final state, whichever run did them."""
    updates_done: int
    """Updates that this run did itself; the others came from the store."""
    scoring_s: float
    """Wall seconds of scoring before and after; scores from the store take none."""
    preparing_s: float
    """Seconds of `scoring_s` that went into making or reading requests and their tokens."""
    seconds: float
    """Wall seconds of the whole run."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of one run."""

    key: str
    """Digest of all choices that decide the numbers."""
    name: str
    """The run in a few words, for people."""
    params: dict[str, Any]
    """Dotted name -> value."""
    position: Position
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    delta: tuple[Score, ...]
    """after - before, with the paired standard error over documents; empty if nothing is done to the checkpoint."""
    final_state: str
    """Store key of the annealed or averaged state, or else of the checkpoint itself."""
    final_loss: float | None
    """Training loss of the last update; None: nothing was trained."""
    cost: Cost
    versions: dict[str, str]
    build: str | None = None
    """Version of torch and kind of CPU or GPU that computed what the store lacked; None in earlier releases."""


def to_json(record: Any) -> dict[str, Any]:
    """The record as a dict for JSON. A record holds no mutable thing that somebody may change."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    return tuple(map(_plain, value)) if isinstance(value, tuple) else value
