"""Training by prefix: resumed, killed, shared or whole, the numbers are the same to the bit."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig

from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.domain.records import Position, StepRecord
from sweep.domain.schedule import learning_rates
from sweep.planning.keys import state_keys
from sweep.run import prefix as rooms
from sweep.run.prefix import Training, train, train_with_trunk
from sweep.run.states import INTERIM, KEPT
from sweep.system import stop_signals
from sweep.system.store import Store
from sweep.training.divergence import MARGIN, STREAK, Diverged, check_losses
from tests.conftest import COMPUTE, EITHER_MODEL
from tests.processes import Script

CPU = torch.device("cpu")
RATES = learning_rates("linear", steps=30, peak=1e-2, hold_steps=10)


def read(instances: Instances, position: Position, seed: int = 0) -> Window:
    order = Continued(num_instances=len(instances), position=position, batch_size=2, shuffle_seed=seed)
    return Window(instances, order, vocab_size=64)


@pytest.fixture
def training(train_config: TrainConfig, instances: Instances) -> Training:
    position = fresh_state(train_config, device=CPU).position
    return Training(
        name="test",
        base="base",
        rates=RATES,
        start=lambda: fresh_state(train_config, device=CPU),
        position=position,
        data=read(instances, position),
        max_grad_norm=1.0,
        z_loss=0.0,
        save_interval=7,
        keep_interval=None,
        device=CPU,
        compute=COMPUTE,
    )


def weights(store: Store, key: str) -> bytes:
    folder = store.get(KEPT, key)
    assert folder is not None
    return (folder / "model.safetensors").read_bytes() + (folder / "optim.safetensors").read_bytes()


def untimed(steps: tuple) -> list:
    return [dataclasses.replace(step, seconds=0.0) for step in steps]


def stop_after(updates: int) -> Callable[[object], None]:
    def on_step(record: object) -> None:
        if record.update == updates:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.parametrize("updates", [1, 7, 8, 20, 29, 30])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, training: Training, updates: int) -> None:
    whole = train(Store(tmp_path / "a"), training)
    store = Store(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        train(store, training, on_step=stop_after(updates))
    resumed = train(Store(store.root), training)
    assert resumed.updates_done == 30 - (updates - 1) // 7 * 7, "no update is done twice but those since the last state"
    assert untimed(resumed.steps) == untimed(whole.steps)
    assert weights(store, resumed.key) == weights(Store(tmp_path / "a"), whole.key)
    assert store.keys(INTERIM) == set(), "interim states are dropped when their run ends"


@EITHER_MODEL
def test_a_signal_stops_the_training_after_the_update_at_hand_and_no_update_is_done_twice(
    tmp_path: Path, training: Training
) -> None:
    whole = train(Store(tmp_path / "whole"), training)
    store, seen = Store(tmp_path / "stopped"), []
    stop_signals.listen([signal.SIGUSR2])

    def signalled(record: StepRecord) -> None:
        seen.append(record.update)
        if record.update == 5:
            os.kill(os.getpid(), signal.SIGUSR2)

    with pytest.raises(stop_signals.Stopped):
        train(store, training, on_step=signalled)
    assert seen == list(range(1, 6)), "saved at the update at hand, which no save_interval asked for"
    stop_signals.listen([])
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    resumed = train(store, training)
    assert resumed.updates_done == len(training.rates) - 5
    assert untimed(resumed.steps) == untimed(whole.steps)
    assert weights(store, resumed.key) == weights(Store(tmp_path / "whole"), whole.key)


def test_a_finished_training_is_not_done_again(store: Store, training: Training) -> None:
    first = train(store, training)

    def refuse() -> None:
        raise AssertionError("nothing needs loading")

    again = train(store, dataclasses.replace(training, start=refuse))
    assert (again.updates_done, again.steps, again.key) == (0, first.steps, first.key)


def test_another_builds_last_state_is_taken_whole_where_that_is_asked_for(
    store: Store, training: Training, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = train(store, dataclasses.replace(training, base="theirs"))
    caplog.set_level(logging.INFO)
    seen: list[StepRecord] = []
    taken = train_with_trunk(store, dataclasses.replace(training, others=("no", "theirs")), 10, on_step=seen.append)
    assert (taken.key, taken.updates_done, taken.steps) == (theirs.key, 0, theirs.steps)
    assert tuple(seen) == theirs.steps, "recorded as if it had been trained here"
    assert f"compute.reuse=any: state {theirs.key} was made by another build" in caplog.text
    longer = dataclasses.replace(training, rates=np.append(RATES, 1e-4))
    assert train(store, dataclasses.replace(longer, others=("theirs",))).updates_done == 31, "none is gone on from"
    own = train(store, training)
    assert own.updates_done and own.key != theirs.key, "by default it is trained"
    assert train(store, dataclasses.replace(training, others=("theirs",))).key == own.key, "one's own comes first"


def test_runs_that_share_their_hold_share_its_states(store: Store, training: Training) -> None:
    constant = dataclasses.replace(training, rates=np.full(10, 1e-2))
    train(store, constant)
    shared = train(store, training)
    assert shared.updates_done == 20
    alone = train(Store(store.root.parent / "alone"), training)
    assert untimed(shared.steps) == untimed(alone.steps)


def test_another_start_data_or_optimizer_shares_nothing(training: Training) -> None:
    assert not set(state_keys("base", RATES)) & set(state_keys("other", RATES))
    assert state_keys("base", RATES)[10] == state_keys("base", RATES[:10])[-1]
    assert state_keys("base", RATES)[11] != state_keys("base", np.full(11, 1e-2))[-1]


def test_a_trajectory_keeps_its_checkpoints_and_goes_on_from_the_last(store: Store, training: Training) -> None:
    trajectory = dataclasses.replace(training, rates=np.full(20, 1e-2), keep_interval=5)
    train(store, dataclasses.replace(trajectory, rates=np.full(10, 1e-2)))
    further = train(store, trajectory)
    assert further.updates_done == 10
    keys = state_keys("base", trajectory.rates)
    assert store.keys(KEPT) == {keys[5], keys[10], keys[15], keys[20]}


def interim_steps(store: Store, training: Training) -> list[int]:
    """The updates after which there is an interim state."""
    return [i for i, key in enumerate(state_keys(training.base, training.rates)) if key in store.keys(INTERIM)]


@pytest.mark.parametrize("keep", [True, False])
def test_a_run_has_at_most_two_interim_states_on_disk(store: Store, training: Training, keep: bool) -> None:
    often, seen = dataclasses.replace(training, save_interval=3, keep=keep), {}

    def look(record: StepRecord) -> None:
        seen[record.update] = interim_steps(store, often)

    train(store, often, on_step=look)
    assert seen[10] == [6, 9] and seen[30] == [24, 27], "the last two"
    assert interim_steps(store, often) == ([] if keep else [30])


def test_a_state_that_another_run_started_from_stays_until_that_run_has_saved_one(
    store: Store, training: Training
) -> None:
    """Two runs with the same first ten learning rates, interrupted in step with each other."""
    hold = dataclasses.replace(training, rates=np.full(30, 1e-2), save_interval=5)
    with pytest.raises(KeyboardInterrupt):
        train(store, hold, on_step=stop_after(7))
    seen = []

    def meanwhile(record: StepRecord) -> None:
        if record.update == 6:  # the other run starts from update 5 too, and ends
            train(Store(store.root), dataclasses.replace(hold, rates=np.full(8, 1e-2)))
            seen.append(interim_steps(store, training))

    train(store, training, on_step=meanwhile)
    assert seen == [[5]], "whoever is killed now goes on from there"
    assert interim_steps(store, training) == []


def test_two_runs_of_one_anneal_that_is_not_kept_share_it_and_the_last_drops_it(
    store: Store, training: Training
) -> None:
    passing = dataclasses.replace(training, keep=False)
    first, second = Store(store.root), Store(store.root)
    key = state_keys(training.base, training.rates)[-1]
    first.claims.claim(key)
    second.claims.claim(key)
    one, two = train(first, passing), train(second, passing)
    assert (one.updates_done, two.updates_done) == (30, 0)
    first.claims.unclaim(key)
    assert not first.drop(INTERIM, key), "the second one scores it yet"
    assert two.folder.is_dir()
    second.claims.unclaim(key)
    assert second.drop(INTERIM, key)
    assert store.usage() == ()


def test_a_run_that_keeps_the_anneal_of_one_that_does_not_has_it_for_good(store: Store, training: Training) -> None:
    key = train(store, dataclasses.replace(training, keep=False)).key
    kept = train(store, training)
    assert (kept.updates_done, kept.folder) == (0, store.path(KEPT, key))
    assert train(store, dataclasses.replace(training, keep=False)).folder == kept.folder
    assert (store.keys(KEPT), store.keys(INTERIM)) == ({key}, set())


def test_a_stop_while_the_loss_is_high_says_what_is_saved(
    store: Store, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "highest_sound", lambda steps, *, vocab_size: 0.0 if len(steps) > 9 else 99.0)
    monkeypatch.setattr(rooms, "asked", iter([False] * 11 + [True]).__next__)
    with pytest.raises(stop_signals.Stopped, match=r"after update 12, .* saved up to update 7$"):
        train(store, training)
    assert interim_steps(store, training) == [7]


def test_a_state_that_somebody_deletes_before_it_is_read_is_looked_for_again(
    store: Store, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(Store(store.root.parent / "alone"), training)
    hold = train(store, dataclasses.replace(training, rates=np.full(10, 1e-2)))
    read = rooms.read_steps

    def dropped(folder: Path) -> list[StepRecord]:
        if folder == hold.folder and folder.exists():
            assert not Store(store.root).drop(KEPT, hold.key), "no run drops it"
            shutil.rmtree(folder)
        return read(folder)

    monkeypatch.setattr(rooms, "read_steps", dropped)
    again = train(store, training)
    assert again.updates_done == 30
    assert untimed(again.steps) == untimed(whole.steps)


def test_a_damaged_state_is_not_trusted(store: Store, training: Training) -> None:
    done = train(store, training)
    (done.folder / "model.safetensors").write_bytes(b"rubbish")
    again = train(Store(store.root), training)
    assert again.updates_done == 30
    assert untimed(again.steps) == untimed(done.steps)


def test_another_seed_sees_other_batches_of_the_same_data(
    store: Store, training: Training, instances: Instances
) -> None:
    one = train(store, training)
    two = train(store, dataclasses.replace(training, base="seed 1", data=read(instances, training.position, seed=1)))
    assert one.steps[0].loss != two.steps[0].loss


def test_a_diverging_training_fails_with_its_records_and_leaves_no_state(store: Store, training: Training) -> None:
    seen = []
    wild = dataclasses.replace(training, rates=np.full(60, 1.0), save_interval=1)
    with pytest.raises(Diverged, match=rf"update \d+: .*learning rate 1\).* for {STREAK} updates"):
        train(store, wild, on_step=seen.append)
    assert [step.update for step in seen] == list(range(1, len(seen) + 1))
    assert len(seen) < 60
    assert store.keys(INTERIM) | store.keys(KEPT) == set()


def steps_with(losses: list[float]) -> list[StepRecord]:
    return [
        StepRecord(update=i, lr=1e-3, loss=loss, grad_norm=1.0, param_norm=1.0, tokens=i, seconds=0.1)
        for i, loss in enumerate(losses, 1)
    ]


FIRST_LOSSES = [4.0, 5.0] + 8 * [4.0]


@pytest.mark.parametrize(
    "later",
    [STREAK * [5.0 + MARGIN], [9.0, 4.0] + (STREAK - 1) * [9.0], 3 * STREAK * [4.0]],
    ids=["at the bound", "one sound loss in between", "sound"],
)
def test_a_training_goes_on_while_one_of_its_last_losses_is_sound(later: list[float]) -> None:
    for last in range(1, len(later) + 1):
        check_losses(steps_with(FIRST_LOSSES + later[:last]), vocab_size=50_000)


def test_losses_that_stay_above_the_first_ones_are_divergence() -> None:
    with pytest.raises(Diverged, match=f"update {10 + STREAK}: the training loss is 7.1 "):
        check_losses(steps_with(FIRST_LOSSES + STREAK * [5.1 + MARGIN]), vocab_size=50_000)


def test_first_losses_worse_than_guessing_are_no_measure() -> None:
    with pytest.raises(Diverged, match=f"update {STREAK}: the training loss is 50 "):
        check_losses(steps_with(STREAK * [50.0]), vocab_size=50_000)


@EITHER_MODEL
@pytest.mark.parametrize(
    ("setting", "tolerance"), [({"activation_checkpointing": True}, 0.0), ({"micro_batch_size": 1}, 1e-5)]
)
def test_settings_that_save_memory_keep_the_losses(
    store: Store, training: Training, setting: dict, tolerance: float
) -> None:
    plain = train(store, training)
    saving = train(
        Store(store.root.parent / "b"), dataclasses.replace(training, compute=dataclasses.replace(COMPUTE, **setting))
    )
    assert [s.loss for s in saving.steps] == pytest.approx([s.loss for s in plain.steps], rel=tolerance, abs=0)
    equal = weights(store, plain.key) == weights(Store(store.root.parent / "b"), saving.key)
    assert equal == (tolerance == 0), "micro batches change the last bits, which is why they are in the states' keys"


KILLED = """
import torch, numpy as np
torch.set_num_threads(1)
from pathlib import Path
from tests.conftest import COMPUTE
from olmo.config import TrainConfig
from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.domain.schedule import learning_rates
from sweep.system.store import Store
from sweep.run.prefix import Training, train, train_with_trunk
config = TrainConfig.load({config!r})
cpu = torch.device("cpu")
position = fresh_state(config, device=cpu).position
instances = Instances([Path({data!r})], sequence_length=16)
order = Continued(num_instances=len(instances), position=position, batch_size=2)
def step(record):
    print(record.update, flush=True)
train(Store({store!r}), Training(name="test", base="base", rates=learning_rates("linear", steps=300, peak=1e-2),
    start=lambda: fresh_state(config, device=cpu), position=position,
    data=Window(instances, order, vocab_size=64), max_grad_norm=1.0, z_loss=0.0,
    save_interval=10, keep_interval=None, device=cpu, compute=COMPUTE), on_step=step)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_nothing(
    tmp_path: Path, training: Training, train_config: TrainConfig, store: Store
) -> None:
    train_config.save(tmp_path / "config.yaml")
    script = KILLED.format(
        config=str(tmp_path / "config.yaml"),
        store=str(store.root),
        data=str(tmp_path / "train.npy"),
    )
    seed = time.time_ns() % 2**32
    logging.getLogger(__name__).warning("seed %d", seed)  # pytest shows it where the test fails
    rng = np.random.default_rng(seed)
    for _ in range(3):
        with Script(script) as run:
            for _ in range(rng.integers(1, 90)):  # counted in updates, so that a fast machine is not done before
                run.stdout.readline()
            time.sleep(rng.uniform(0, 0.02))
            run.kill()
    long = dataclasses.replace(training, rates=learning_rates("linear", steps=300, peak=1e-2), save_interval=10)
    resumed = train(Store(store.root), long)
    whole = train(Store(tmp_path / "whole"), long)
    assert untimed(resumed.steps) == untimed(whole.steps)
    assert weights(store, resumed.key) == weights(Store(tmp_path / "whole"), whole.key)
