"""What came out: frozen records, plain enough for JSON and Parquet, that every room may read and none may change."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Position:
    """What a checkpoint itself says of where it stands in its training."""

    step: int
    """Optimizer updates done."""
    epoch: int
    """Epoch the data order is in, from 0."""
    instances: int
    """Instances of this epoch already consumed."""
    tokens: int
    """Tokens seen over the whole training."""
    lr: float
    """Learning rate in force, from the optimizer's `param_groups`."""
    batch_size: int
    """Instances per update."""
    sequence_length: int
    """Tokens per instance."""
    data_seed: int
    """Seed of the data order: epoch e is shuffled by PCG64(data_seed + e)."""
    max_grad_norm: float | None
    """Gradient-norm clip of the training; None: no clipping."""


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer update, measured."""

    update: int
    """Updates since the checkpoint, from 1."""
    lr: float
    loss: float
    """The training objective as OLMo counts it: summed cross-entropy in nats over all B*T input tokens of the batch."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    param_norm: float
    """L2 norm of all parameters after the update."""
    tokens: int
    """Tokens consumed since the checkpoint, this update included."""
    seconds: float
    """Wall seconds of this update; the one field that two equal runs may differ in."""
    update_norm: float | None = None
    """L2 norm of the change of all parameters by this update; None: not measured (`anneal.UPDATE_NORM_INTERVAL`)."""


@dataclass(frozen=True, kw_only=True)
class ChoiceRecord:
    """One row of a score's `records.parquet`: a choice of a document of a task, or a held-out document."""

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
    """Characters in front that `characters` and `bytes` leave out: 1 for a space."""
    unconditional_log_probability: float | None = None
    """Log-probability of the choice after "Answer:" alone; None: not asked for."""
    greedy: bool | None = None
    """Whether each token was the likeliest; None: not asked for."""
    subject: str | None = None
    """Part of the task that is averaged by itself; None: the task has no parts."""


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
    """What a run took."""

    tokens: int
    """Tokens annealed."""
    flops: float
    """Model floating-point operations of the anneal."""
    anneal_s: float
    """Seconds of the updates in the result, whichever run did them."""
    updates_done: int
    """Updates this run did itself; the rest came from the store."""
    scoring_s: float
    """Wall seconds this run took for its scores before and after; what was in the store took none."""
    preparing_s: float
    """Of those, seconds for what no checkpoint changes: requests and tokens, made or read."""
    seconds: float
    """Wall seconds of the whole run."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The outcome of one point of a sweep."""

    key: str
    """Digest of the choices that decide the numbers."""
    name: str
    """The point in a few words."""
    params: dict[str, Any]
    """Dotted name -> value."""
    position: Position
    before: tuple[Score, ...]
    after: tuple[Score, ...]
    delta: tuple[Score, ...]
    """after - before, the standard error paired over documents; empty where nothing was done to the checkpoint."""
    final_state: str
    """Store key of the annealed or averaged state; where nothing was done, the checkpoint's own."""
    final_loss: float | None
    """Training loss of the last update; None: there was none."""
    cost: Cost
    versions: dict[str, str]


def to_json(record: Any) -> dict[str, Any]:
    """A record as JSON-ready dict."""
    return dataclasses.asdict(record)
