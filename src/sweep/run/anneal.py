"""The anneal of a run: its training, or what stands in its place if nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sweep.domain.records import StepRecord
from sweep.planning.keys import state_keys
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.prefix import train_with_trunk
from sweep.run.prepare import Prepared
from sweep.system.store import Store


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
    if work.ranks.leads and not work.keep:  # it is scored yet: another run that shares it may end before
        store.claims.claim(state_keys(work.base, work.rates)[-1])
    trained = train_with_trunk(store, work, prepared.plan.shared_steps, on_step=on_step)
    checkpoint = CheckpointFolder(key=trained.key, folder=trained.folder, config=prepared.checkpoint.config)
    return Annealed(checkpoint=checkpoint, steps=trained.steps, updates_done=trained.updates_done)
