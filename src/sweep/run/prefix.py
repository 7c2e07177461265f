"""Training by prefix: find the longest stored prefix of an array of learning rates, and go on from there.

This one mechanism resumes a killed run, skips a finished one, and lets runs share a trunk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
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
from sweep.run.states import INTERIM, KEPT, STEPS, States, read_steps
from sweep.system.lease import Lease
from sweep.system.progress import Progress
from sweep.system.ranks import ALONE, Ranks
from sweep.system.stop_signals import ASKED, Stopped, asked
from sweep.system.store import Store
from sweep.training.divergence import Diverged, check_losses, highest_sound
from sweep.training.loop import UpdateRules, anneal, configure_passes
from sweep.training.skipping import SkipRule

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One array of learning rates, followed from one start."""

    name: str
    """Shown at the progress bar."""
    base: str
    """Digest of all that decides the numbers besides the learning rates."""
    others: tuple[str, ...] = ()
    """The same of other builds, whose last states are taken too."""
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
    counts_last: bool = True
    """As `UpdateRules.counts_last`."""
    skip: SkipRule | None = None
    """Which updates are skipped; None: none is."""
    save_interval: int
    """Updates between two interim states."""
    keep_interval: int | None
    """Updates between two kept states; None: only the last state is kept."""
    keep: bool = True
    """Whether the last state is kept; if not, it is an interim state, which is dropped once nobody needs it."""
    device: torch.device
    compute: Compute
    ranks: Ranks = ALONE
    """The processes that train together; each calls `train` with the same training."""
    config_yaml: str | None = None
    """The text of config.yaml in its states; None: made whenever one is saved."""
    smaller: Callable[[], Training | None] = lambda: None
    """The same with passes of half as many instances; None where they can't be smaller."""


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
    one of the ranks was asked to; the message says up to which update the work is saved.
    """
    if (taken := _of_another_build(store, training)) is not None:
        return _replayed(store, taken, on_step)
    ranks, states = training.ranks, States(store, state_keys(training.base, training.rates))
    with _alone(states) if ranks.leads else contextlib.nullcontext() as lease:
        done, steps, state = _resume(training, states)
        for record in steps:
            on_step(record)
        if state is not None:
            try:
                for record in _updates(training, state, tuple(steps)):
                    steps.append(record)
                    on_step(record)
                    check_losses(steps, vocab_size=state.config.model.vocab_size)
                    stop = ranks.any(asked())
                    if _due(training, state, steps, stop=stop):
                        _save(training, state, steps, states, lease)
                    if stop:
                        raise Stopped(ranks.from_first(lambda: _stopped(states, len(steps))))
            except Diverged:
                if ranks.leads:
                    states.drop_interim()
                raise
        final = ranks.from_first(lambda: str(states.finished(keep=training.keep)))
    return Trained(states.keys[-1], Path(final), tuple(steps), len(training.rates) - done)


@contextlib.contextmanager
def _alone(states: States) -> Iterator[Lease]:
    """The right to make these states, within the block."""
    with states.store.lease(KEPT, states.keys[-1]) as lease, states.followed():
        yield lease


def _stopped(states: States, updates: int) -> str:
    """What a training that was asked to stop says of its work."""
    if (saved := states.last_saved()) == updates:
        return ASKED
    return (
        f"asked to stop after update {updates}, where the loss was too high to go on from: the work is saved up to "
        f"update {saved}"
    )


def train_with_trunk(
    store: Store, training: Training, trunk_steps: int, *, on_step: Callable[[StepRecord], None] = lambda record: None
) -> Trained:
    """`train`, where the first `trunk_steps` updates are a training of their own: runs that share them do them once."""
    if not trunk_steps or _of_another_build(store, training) is not None:
        return train(store, training, on_step=on_step)
    name, rates = f"{training.name}: hold", training.rates[:trunk_steps]
    trunk = train(store, dataclasses.replace(training, name=name, rates=rates, keep=True), on_step=on_step)
    whole = train(store, training, on_step=on_step)
    return dataclasses.replace(whole, updates_done=trunk.updates_done + whole.updates_done)


def _of_another_build(store: Store, training: Training) -> str | None:
    """The key of the last state as another build has made it; None where this build has it, or none may be taken."""

    def find() -> str | None:
        last, *others = (state_keys(base, training.rates)[-1] for base in (training.base, *training.others))
        if store.has(KEPT, last) or store.has(INTERIM, last):
            return None
        return next((key for key in others if store.get(KEPT, key) is not None), None)

    return training.ranks.from_first(find) if training.others else None


def _replayed(store: Store, key: str, on_step: Callable[[StepRecord], None]) -> Trained:
    """A state that another build has made, whole: nothing is trained on from it."""
    folder = store.get(KEPT, key)
    assert folder is not None, f"state {key} vanished from the store"
    log.info("compute.reuse=any: state %s was made by another build", key)
    steps = read_steps(folder)
    for record in steps:
        on_step(record)
    return Trained(key, folder, tuple(steps), 0)


def _resume(training: Training, states: States) -> tuple[int, list[StepRecord], TrainingState | None]:
    """(updates, records, state) of the longest stored prefix; the state is None if nothing is left to train.

    Looks again if somebody has deleted the prefix meanwhile.
    """
    ranks = training.ranks
    steps: list[StepRecord] = []
    state = None
    while True:
        done, place = ranks.from_first(lambda: _place(*states.furthest()))
        folder = Path(place) if place else None
        try:
            steps = read_steps(folder) if folder else []
            state = _start(training, folder) if done < len(training.rates) else None
            vanished = False
        except FileNotFoundError:
            if folder is None or folder.exists():
                raise
            vanished = True
        if not ranks.any(vanished):  # before the state is shared out, in which all ranks take part
            break
    if state is not None and ranks.size > 1:
        from sweep.checkpoints.distributed import shard

        shard(state, num_ranks=ranks.size, device=training.device)
    return done, steps, state


def _place(updates: int, folder: Path | None) -> tuple[int, str]:
    """A prefix as `from_first` can send it; the empty text stands for no folder."""
    return updates, str(folder or "")


def _start(training: Training, folder: Path | None) -> TrainingState:
    """The state in `folder`, or the training's start if that is None; several ranks have yet to shard it."""
    compute = training.compute
    place = loading_device(training.device, training.ranks)
    state = load_state(folder, read_config(folder), device=place) if folder else training.start()
    configure_passes(state.model, activation_checkpointing=compute.activation_checkpointing, compile=compute.compile)
    return state


def loading_device(device: torch.device, ranks: Ranks) -> torch.device:
    """Where each rank loads a state before `shard`: the first on the CPU, the others without reading tensors."""
    return device if ranks.size == 1 else torch.device("cpu" if ranks.leads else "meta")


def _updates(training: Training, state: TrainingState, before: tuple[StepRecord, ...]) -> Iterator[StepRecord]:
    """Does the updates after those of `before` and keeps `state.position` up to date."""
    done = len(before)
    rates, position, compute, ranks = training.rates, training.position, training.compute, training.ranks
    rules = UpdateRules(
        max_grad_norm=training.max_grad_norm,
        z_loss=training.z_loss,
        masked=training.masked,
        counts_last=training.counts_last,
        skip=training.skip,
        precision=compute.precision,
        micro_batch_size=compute.micro_batch_size,
        ranks=ranks,
    )
    batches = training.data.batches(done, len(rates), rows=ranks.share(position.batch_size))
    records = anneal(state.model, state.optimizer, batches, rates[done:], rules, before=before)
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
    return (training.keep and updates == len(training.rates)) or (every is not None and updates % every == 0)


def _save(
    training: Training, state: TrainingState, steps: list[StepRecord], states: States, lease: Lease | None
) -> None:
    """Put the state into the store; of several ranks the first one writes and the others wait."""
    ranks, updates = training.ranks, len(steps)
    if ranks.size > 1:
        from sweep.checkpoints.distributed import whole

        saved = whole(state, keep=ranks.leads)
    else:
        saved = state

    def write() -> None:
        assert lease is not None
        assert saved is not None
        lease.check()
        with states.saving(updates, kept=_kept(training, updates)) as folder:
            save_state(folder, saved, config_yaml=training.config_yaml)
            (folder / STEPS).write_text("".join(f"{json.dumps(to_json(step))}\n" for step in steps))

    ranks.from_first(write)
