"""Training by prefix: find the longest stored prefix of an array of learning rates, and go on from there.

This one mechanism resumes a killed run, skips a finished one, and lets runs share a trunk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from sweep.checkpoints import TrainingState, load_state, read_config, save_state
from sweep.config import Compute
from sweep.data import Window
from sweep.domain.records import Position, StepRecord, to_json
from sweep.planning.keys import state_keys
from sweep.system.lease import Lease
from sweep.system.progress import Progress
from sweep.system.ranks import ALONE, Ranks
from sweep.system.stop_signals import ASKED, Stopped, asked
from sweep.system.store import Store
from sweep.training.divergence import Diverged, check_losses, highest_sound
from sweep.training.loop import UpdateRules, anneal, configure_passes

KEPT, INTERIM = "states", "interim"
"""Kinds of the store: states that are kept, and states that only an interrupted training goes on from."""
STEPS = "steps.jsonl"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One array of learning rates, followed from one start."""

    name: str
    """Shown at the progress bar."""
    base: str
    """Digest of all that decides the numbers besides the learning rates."""
    rates: np.ndarray
    """(updates,) float64."""
    start: Callable[[], TrainingState]
    """Loads the state that update 1 starts from."""
    position: Position
    """The position of that state in its training."""
    data: Window
    """The batches of every update."""
    max_grad_norm: float | None
    z_loss: float
    masked: Callable[[np.ndarray], np.ndarray] | None = None
    """Marks the instances of a batch that are left out of the loss; None: no instance is."""
    save_interval: int
    """Updates between two interim states."""
    keep_interval: int | None
    """Updates between two kept states; None: only the last state is kept."""
    device: torch.device
    compute: Compute
    ranks: Ranks = ALONE
    """The processes that train together; each calls `train` with the same training."""


@dataclass(frozen=True)
class Trained:
    """The result of a training."""

    key: str
    """Store key of the last state."""
    folder: Path
    steps: tuple[StepRecord, ...]
    """One record an update, those of reused prefixes included."""
    updates_done: int
    """Updates that this process did itself."""


def train(store: Store, training: Training, *, on_step: Callable[[StepRecord], None] = lambda record: None) -> Trained:
    """The training's last state, from the store as far as the store has it; `on_step` sees every record in order.

    Raises Diverged where the training fails; then it leaves no interim state. Raises Stopped after the update at which
    one of the ranks was asked to, its state saved.
    """
    keys, ranks = state_keys(training.base, training.rates), training.ranks
    with store.lease(KEPT, keys[-1]) if ranks.leads else contextlib.nullcontext() as lease:
        done, steps, state = _resume(store, training, keys)
        for record in steps:
            on_step(record)
        if state is not None:
            try:
                for record in _updates(training, state, done):
                    steps.append(record)
                    on_step(record)
                    check_losses(steps, vocab_size=state.config.model.vocab_size)
                    stop = ranks.any(asked())
                    if _due(training, state, steps, stop=stop):
                        _save(store, training, state, keys[len(steps)], steps, lease)
                    if stop:
                        raise Stopped(ASKED)
            except Diverged:
                if ranks.leads:
                    _drop_interim(store, keys)
                raise
    final = Path(ranks.from_first(lambda: str(_finish(store, keys))))
    return Trained(keys[-1], final, tuple(steps), len(training.rates) - done)


def train_with_trunk(
    store: Store, training: Training, trunk_steps: int, *, on_step: Callable[[StepRecord], None] = lambda record: None
) -> Trained:
    """`train`, where the first `trunk_steps` updates are a training of their own: runs that share them do them once."""
    if not trunk_steps:
        return train(store, training, on_step=on_step)
    name, rates = f"{training.name}: hold", training.rates[:trunk_steps]
    trunk = train(store, dataclasses.replace(training, name=name, rates=rates), on_step=on_step)
    whole = train(store, training, on_step=on_step)
    return dataclasses.replace(whole, updates_done=trunk.updates_done + whole.updates_done)


def _resume(store: Store, training: Training, keys: list[str]) -> tuple[int, list[StepRecord], TrainingState | None]:
    """(updates, records, state) of the longest stored prefix; the state is None if nothing is left to train.

    Looks again if another run that shares the prefix deletes its interim states meanwhile.
    """
    ranks = training.ranks
    while True:
        done, place = ranks.from_first(lambda: _place(longest_prefix(store, keys)))
        folder = Path(place) if place else None
        try:
            steps = read_steps(folder) if folder else []
            return done, steps, _start(training, folder) if done < len(training.rates) else None
        except FileNotFoundError:
            if ranks.size > 1 or folder is None or folder.exists():
                raise


def _finish(store: Store, keys: list[str]) -> Path:
    """The folder of the last state; the interim states are dropped."""
    if store.has(INTERIM, keys[-1]):
        store.move(INTERIM, keys[-1], KEPT)
    _drop_interim(store, keys)
    final = store.get(KEPT, keys[-1])
    assert final is not None, f"state {keys[-1]} vanished from the store"
    return final


def _drop_interim(store: Store, keys: list[str]) -> None:
    for key in store.keys(INTERIM).intersection(keys):
        store.drop(INTERIM, key)


def longest_prefix(store: Store, keys: list[str]) -> tuple[int, Path | None]:
    """(updates, folder) of the furthest undamaged state among `keys`; (0, None) if there is none."""
    present = {key: kind for kind in (INTERIM, KEPT) for key in store.keys(kind)}
    for updates in range(len(keys) - 1, 0, -1):
        if keys[updates] in present and (folder := store.get(present[keys[updates]], keys[updates])):
            return updates, folder
    return 0, None


def _place(prefix: tuple[int, Path | None]) -> tuple[int, str]:
    """A prefix as `from_first` can send it; the empty text stands for no folder."""
    updates, folder = prefix
    return updates, str(folder or "")


def read_steps(folder: Path) -> list[StepRecord]:
    """The records of all updates up to a state."""
    return [StepRecord(**json.loads(line)) for line in (folder / STEPS).read_text().splitlines()]


def _start(training: Training, folder: Path | None) -> TrainingState:
    """The state in `folder`, or the training's start if that is None; with several ranks, this rank's shard of it."""
    compute, ranks = training.compute, training.ranks
    place = loading_device(training.device, ranks)
    state = load_state(folder, read_config(folder), device=place) if folder else training.start()
    configure_passes(state.model, activation_checkpointing=compute.activation_checkpointing, compile=compute.compile)
    if ranks.size > 1:
        from sweep.checkpoints.distributed import shard

        shard(state, num_ranks=ranks.size, device=training.device)
    return state


def loading_device(device: torch.device, ranks: Ranks) -> torch.device:
    """Where each rank loads a state before `shard`: the first on the CPU, the others without reading tensors."""
    return device if ranks.size == 1 else torch.device("cpu" if ranks.leads else "meta")


def _updates(training: Training, state: TrainingState, done: int) -> Iterator[StepRecord]:
    """Does the updates after the first `done` and keeps `state.position` up to date."""
    rates, position, compute, ranks = training.rates, training.position, training.compute, training.ranks
    rules = UpdateRules(
        max_grad_norm=training.max_grad_norm,
        z_loss=training.z_loss,
        masked=training.masked,
        precision=compute.precision,
        micro_batch_size=compute.micro_batch_size,
        ranks=ranks,
    )
    batches = training.data.batches(done, len(rates), rows=ranks.share(position.batch_size))
    records = anneal(state.model, state.optimizer, batches, rates[done:], rules, first_update=done + 1)
    with Progress(training.name, total=len(rates), done=done, shown=ranks.leads) as bar:
        for record in records:
            state.position = training.data.after(record.update, lr=record.lr)
            yield record
            bar.advance(1, f"loss {record.loss:.3f} lr {record.lr:.1e}")


def _due(training: Training, state: TrainingState, steps: list[StepRecord], *, stop: bool) -> bool:
    """Whether to save the state after these updates. A state that may be diverging is saved only as the last."""
    updates = len(steps)
    if updates == len(training.rates):
        return True
    if updates % training.save_interval and not stop and not _kept(training, updates):
        return False
    return steps[-1].loss <= highest_sound(steps, vocab_size=state.config.model.vocab_size)


def _kept(training: Training, updates: int) -> bool:
    every = training.keep_interval
    return updates == len(training.rates) or (every is not None and updates % every == 0)


def _save(
    store: Store, training: Training, state: TrainingState, key: str, steps: list[StepRecord], lease: Lease | None
) -> None:
    """Put the state into the store; of several ranks the first one writes and the others wait."""
    ranks = training.ranks
    if ranks.size > 1:
        from sweep.checkpoints.distributed import whole

        saved = whole(state, keep=ranks.leads)
    else:
        saved = state

    def write() -> None:
        assert lease is not None
        assert saved is not None
        lease.check()
        with store.writing(KEPT if _kept(training, len(steps)) else INTERIM, key) as folder:
            save_state(folder, saved)
            (folder / STEPS).write_text("".join(f"{json.dumps(to_json(step))}\n" for step in steps))

    ranks.from_first(write)
