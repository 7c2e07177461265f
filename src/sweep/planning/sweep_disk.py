"""How much disk a sweep will need: sums over forecasts (pure)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sweep.config import Anneal, RunConfig, Tasks
from sweep.config.published import from_hub
from sweep.planning.gpu_memory import FP32
from sweep.planning.model_sizes import stated_sizes

STATE_BYTES = 3 * FP32
"""Bytes a parameter takes in a training state: the weight and Adam's two moments."""
DOCUMENTS = 3000
"""Of a task that is scored whole, roughly: between openbookqa's 500 and hellaswag's 10,000."""
RECORD_BYTES = 250
"""Bytes of a document's scored choices in records.parquet, roughly."""


BOOKKEEPING = ("name", "save_interval", "keep", "merge")
"""Choices of an anneal that decide no state."""
AFTER_THE_HOLD = ("steps", "shape", "final_fraction")
"""Choices of an anneal that decide nothing before its hold ends."""


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes that runs will write, roughly; None if a model's number of parameters isn't known."""

    kept: int | None
    """Annealed and averaged states that stay, and the shared beginnings of anneals."""
    passing: int | None
    """States that a run has besides while it is under way: of one run, the largest."""
    checkpoints: int | None
    """Checkpoints that are downloaded, or pretrained here, if the store has none of them."""
    scores: int

    @property
    def own(self) -> int | None:
        """What the runs themselves write into the store."""
        return None if self.kept is None or self.passing is None else self.kept + self.passing + self.scores


def state_bytes(config: RunConfig) -> int | None:
    """Size of one training state of the run's model; None if its number of parameters isn't known."""
    sizes = stated_sizes(config.model)
    parameters = config.model.parameters or (None if sizes is None else sizes.parameters)
    return None if parameters is None else STATE_BYTES * parameters


def disk(configs: Sequence[RunConfig], *, made: Collection[int] = (), local: Mapping[str, int] | None = None) -> Disk:
    """The disk that these runs need, none of which is done.

    `made` has the indices of runs whose anneal is in the store already. `local` has the size of a state by
    `checkpoint.path`, where a checkpoint on disk says it.
    """
    kept: dict[object, int | None] = {}
    passing: list[int | None] = [0]
    checkpoints: dict[str, int | None] = {}
    for i, config in enumerate(configs):
        size = state_bytes(config) or (local or {}).get(config.checkpoint.path or "")
        start = repr((config.model, config.checkpoint))  # a digest of all points of a large sweep takes seconds
        checkpoints[start] = _checkpoint(config)
        if i not in made:
            kept |= dict.fromkeys(_kept_states(config, start), size)
            passing.append(None if size is None else size * _passing(config.anneal))
    return Disk(
        kept=_sum(kept.values()),
        passing=None if None in passing else max(size for size in passing if size is not None),
        checkpoints=_sum(checkpoints.values()),
        scores=sum(_scores(config.tasks) for config in configs),
    )


def _kept_states(config: RunConfig, start: str) -> list[object]:
    """What tells apart the states that this run leaves in the store; `start` tells its checkpoint."""
    anneal = config.anneal
    if anneal.merge is not None:
        return [(start, repr(anneal.merge))] if anneal.keep else []
    if not anneal.steps:
        return []
    of_anneal = {name: value for name, value in vars(anneal).items() if name not in BOOKKEEPING + AFTER_THE_HOLD}
    trunk = (start, repr((config.data, config.seed, config.compute, of_anneal)))
    whole = (trunk, *(getattr(anneal, name) for name in AFTER_THE_HOLD))
    return [*([trunk] if anneal.hold_steps else []), *([whole] if anneal.keep else [])]


def _passing(anneal: Anneal) -> int:
    """Number of states besides those that are kept, at most, while the run is under way: two at a time are on disk."""
    if not anneal.steps:
        return 0 if anneal.keep or anneal.merge is None else 1
    interim = (anneal.steps - 1) // anneal.save_interval
    return min(1, interim) if anneal.keep else min(2, interim + 1)  # while the last one is written, one other is there


def _checkpoint(config: RunConfig) -> int | None:
    """Bytes of the checkpoint that a run starts from, and of those that it is averaged with; 0 for one on disk."""
    size = state_bytes(config)
    if config.model.source == "local":
        return 0
    if size is None:
        return None
    if config.model.source == "hub":
        return size // 3
    if config.model.pretraining is not None and config.model.source == "embedded":
        return size * -(-(config.checkpoint.step or 0) // config.model.pretraining.checkpoint_interval)
    published = config.model.published
    assert published is not None
    weights = size // 3
    whole = config.anneal.needs_optimizer if from_hub(published, config.checkpoint.source) else True
    averaged = config.anneal.merge.last - 1 if config.anneal.merge else 0
    return (size if whole else weights) + averaged * weights


def _scores(tasks: Tasks) -> int:
    """Bytes of a run's records, before and after."""
    return 2 * len(tasks.metrics) * (tasks.limit or DOCUMENTS) * RECORD_BYTES


def _sum(parts: Collection[int | None]) -> int | None:
    return None if None in parts else sum(part for part in parts if part is not None)
