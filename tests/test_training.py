"""Training by prefix: resumed, killed, shared or whole, the numbers are the same to the bit."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig

from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.keys import state_keys
from sweep.records import Position
from sweep.schedule import learning_rates
from sweep.store import Store
from sweep.training import INTERIM, KEPT, Training, train

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


def test_a_finished_training_is_not_done_again(store: Store, training: Training) -> None:
    first = train(store, training)

    def refuse() -> None:
        raise AssertionError("nothing needs loading")

    again = train(store, dataclasses.replace(training, start=refuse))
    assert (again.updates_done, again.steps, again.key) == (0, first.steps, first.key)


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


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import torch, numpy as np
torch.set_num_threads(1)
from pathlib import Path
from olmo.config import TrainConfig
from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.schedule import learning_rates
from sweep.store import Store
from sweep.training import Training, train
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
    save_interval=10, keep_interval=None, device=cpu), on_step=step)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_nothing(
    tmp_path: Path, training: Training, train_config: TrainConfig, store: Store
) -> None:
    train_config.save(tmp_path / "config.yaml")
    script = KILLED.format(
        tests=str(Path(__file__).parent),
        config=str(tmp_path / "config.yaml"),
        store=str(store.root),
        data=str(tmp_path / "train.npy"),
    )
    rng = np.random.default_rng(int(time.time()))
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(rng.uniform(0, 0.5))
            os.kill(run.pid, signal.SIGKILL)
    long = dataclasses.replace(training, rates=learning_rates("linear", steps=300, peak=1e-2), save_interval=10)
    resumed = train(Store(store.root), long)
    whole = train(Store(tmp_path / "whole"), long)
    assert untimed(resumed.steps) == untimed(whole.steps)
    assert weights(store, resumed.key) == weights(Store(tmp_path / "whole"), whole.key)
