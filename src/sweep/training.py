"""Training by prefix: find the longest prefix of an array of learning rates that the store holds, and go on from there.

Resuming a killed run, skipping a finished one and sharing a trunk between runs are this one act.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sweep.anneal import anneal
from sweep.checkpoints import TrainingState, load_state, read_config, save_state
from sweep.data import Window
from sweep.keys import state_keys
from sweep.lease import Lease
from sweep.progress import Progress
from sweep.records import Position, StepRecord, to_json
from sweep.store import Store

KEPT, INTERIM = "states", "interim"
"""Kinds of the store: states to keep, and states that only an interrupted training goes on from."""
STEPS = "steps.jsonl"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One array of learning rates followed from one start."""

    name: str
    """For people, at the progress bar."""
    base: str
    """Digest of all that decides the numbers besides the learning rates."""
    rates: np.ndarray
    """(updates,) float64."""
    start: Callable[[], TrainingState]
    """Loads the state that update 1 starts from."""
    position: Position
    """Where that state stands."""
    data: Window
    """Where the batches come from."""
    max_grad_norm: float | None
    z_loss: float
    save_interval: int
    """An interim state every so many updates."""
    keep_interval: int | None
    """A kept state every so many updates; None: the last alone."""
    device: torch.device


@dataclass(frozen=True)
class Trained:
    """Where a training ended."""

    key: str
    """Store key of the last state."""
    folder: Path
    steps: tuple[StepRecord, ...]
    """One record an update, those of reused prefixes included."""
    updates_done: int
    """Updates that this process did itself."""


def train(store: Store, training: Training, *, on_step: Callable[[StepRecord], None] = lambda record: None) -> Trained:
    """The training's last state, from the store as far as the store has it; `on_step` sees every record in order."""
    keys = state_keys(training.base, training.rates)
    with store.lease(KEPT, keys[-1]) as lease:
        done, folder = longest_prefix(store, keys)
        steps = read_steps(folder) if folder else []
        for record in steps:
            on_step(record)
        if done < len(training.rates):
            state = load_state(folder, read_config(folder), device=training.device) if folder else training.start()
            for record in _updates(training, state, done):
                steps.append(record)
                on_step(record)
                _save(store, training, state, keys, steps, lease)
        elif store.has(INTERIM, keys[-1]):
            store.move(INTERIM, keys[-1], KEPT)
    for key in store.keys(INTERIM).intersection(keys):
        store.drop(INTERIM, key)
    final = store.get(KEPT, keys[-1])
    assert final is not None, f"state {keys[-1]} vanished from the store"
    return Trained(keys[-1], final, tuple(steps), len(training.rates) - done)


def longest_prefix(store: Store, keys: list[str]) -> tuple[int, Path | None]:
    """(updates, folder) of the furthest sound state among `keys`; (0, None) where there is none."""
    present = {key: kind for kind in (INTERIM, KEPT) for key in store.keys(kind)}
    for updates in range(len(keys) - 1, 0, -1):
        if keys[updates] in present and (folder := store.get(present[keys[updates]], keys[updates])):
            return updates, folder
    return 0, None


def read_steps(folder: Path) -> list[StepRecord]:
    """The records of all updates up to a state."""
    return [StepRecord(**json.loads(line)) for line in (folder / STEPS).read_text().splitlines()]


def _updates(training: Training, state: TrainingState, done: int) -> Iterator[StepRecord]:
    """Do the updates after the first `done`, keeping `state.position` true."""
    rates, position = training.rates, training.position
    records = anneal(
        state.model,
        state.optimizer,
        training.data.batches(done, len(rates)),
        rates[done:],
        max_grad_norm=training.max_grad_norm,
        z_loss=training.z_loss,
        first_update=done + 1,
        tokens_before=done * position.batch_size * position.sequence_length,
    )
    with Progress(training.name, total=len(rates), done=done) as bar:
        for record in records:
            state.position = training.data.after(record.update, lr=record.lr)
            yield record
            bar.advance(1, f"loss {record.loss:.3f} lr {record.lr:.1e}")


def _save(
    store: Store, training: Training, state: TrainingState, keys: list[str], steps: list[StepRecord], lease: Lease
) -> None:
    updates = len(steps)
    kept = updates == len(training.rates) or (training.keep_interval and updates % training.keep_interval == 0)
    if not kept and updates % training.save_interval:
        return
    lease.check()
    with store.writing(KEPT if kept else INTERIM, keys[updates]) as folder:
        save_state(folder, state)
        (folder / STEPS).write_text("".join(f"{json.dumps(to_json(step))}\n" for step in steps))
