"""The anneal of a run: its training, or what stands in its place if nothing is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sweep.domain.records import StepRecord
from sweep.evaluate.engine import out_of_memory
from sweep.planning.keys import state_keys
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.prefix import Trained, Training, train_with_trunk
from sweep.run.prepare import Prepared
from sweep.system.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Annealed:
    """The checkpoint after the anneal."""

    checkpoint: CheckpointFolder
    steps: tuple[StepRecord, ...] = ()
    """One record for each update, those of reused prefixes included; empty if nothing was trained."""
    updates_done: int = 0
    """Updates that this run did itself; the others came from the store."""


def anneal(
    store: Store, prepared: Prepared, *, on_step: Callable[[StepRecord], None] = lambda record: None
) -> Annealed:
    """Follow the plan's learning rates. If nothing is trained, the average or the checkpoint itself is the result."""
    work = prepared.work
    if isinstance(work, CheckpointFolder):
        return Annealed(checkpoint=work)
    trained = _in_passes_that_fit(store, work, prepared.plan.shared_steps, on_step)
    checkpoint = CheckpointFolder(key=trained.key, folder=trained.folder, config=prepared.checkpoint.config)
    return Annealed(checkpoint=checkpoint, steps=trained.steps, updates_done=trained.updates_done)


def _in_passes_that_fit(
    store: Store, work: Training, trunk_steps: int, on_step: Callable[[StepRecord], None]
) -> Trained:
    """Do the training; where a pass needs more memory than there is, do it anew in passes of half as many instances."""
    while True:
        if work.ranks.leads and not work.keep:  # it is scored yet: another run that shares it may end before
            store.claims.claim(state_keys(work.base, work.rates)[-1])
        try:
            return train_with_trunk(store, work, trunk_steps, on_step=on_step)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or (smaller := work.smaller()) is None:
                raise
            size = smaller.compute.micro_batch_size
            log.warning("the anneal ran out of memory: going on with compute.micro_batch_size=%s", size)
            work = smaller
        if work.device.type == "cuda":  # only here the frames of the error hold no tensors any more
            torch.cuda.empty_cache()
