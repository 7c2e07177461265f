"""A run over several processes gives what one gives, within fp32 rounding, and never hangs when one of them fails."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from olmo.config import TrainConfig

from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.domain.errors import Refusal
from sweep.domain.records import StepRecord
from sweep.run.prefix import Trained, Training, train
from sweep.run.states import KEPT
from sweep.system import ranks as ranks_module
from sweep.system.ranks import Ranks, joined
from sweep.system.store import Store
from tests.conftest import COMPUTE

RATES = np.full(16, 1e-2)
WAIT_S = 100.0

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["sweep.run.prefix", "sweep.checkpoints.distributed", "torch._dynamo"])
# FSDP imports torch._dynamo late: a second for each rank


def together(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`work(ranks, *arguments)` in `size` processes: what it gave or raised on each rank."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = processes.Queue()
    ranks = [
        processes.Process(target=_rank, args=(rank, size, port, answers, work, arguments), daemon=True)
        for rank in range(size)
    ]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + WAIT_S
    for process in ranks:
        process.join(max(0.0, deadline - time.monotonic()))
    hanging = [rank for rank, process in enumerate(ranks) if process.is_alive()]
    for process in ranks:
        process.kill()
    assert not hanging, f"ranks {hanging} of {size} hang"
    found = dict(answers.get(timeout=5) for process in ranks if process.exitcode == 0)
    return [found.get(rank, "killed") for rank in range(size)]


def _rank(rank: int, size: int, port: int, answers: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=f"{rank}", WORLD_SIZE=f"{size}", MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}")
    try:
        with joined() as ranks:
            answer = work(ranks, *arguments)
    except BaseException as error:
        answer = f"{type(error).__name__}: {error}"
    answers.put((rank, answer))


def trained(ranks: Ranks, folder: Path, updates: int, store: str, compute: dict[str, Any]) -> Trained:
    """A training over these ranks, its gradients clipped."""
    config = TrainConfig.load(folder / "config.yaml")
    cpu = torch.device("cpu")
    position = fresh_state(config, device=cpu).position
    instances = Instances([folder / "train.npy"], sequence_length=config.model.max_sequence_length)
    order = Continued(num_instances=len(instances), position=position, batch_size=position.batch_size)
    training = Training(
        name="test",
        base="base",
        rates=RATES[:updates],
        start=lambda: fresh_state(config, device=cpu),
        position=position,
        data=Window(instances, order, vocab_size=config.model.vocab_size),
        max_grad_norm=0.5,
        z_loss=1e-3,
        save_interval=6,
        keep_interval=None,
        device=cpu,
        compute=dataclasses.replace(COMPUTE, **compute),
        ranks=ranks,
    )
    return train(Store(folder / store), training)


def assert_alike(steps: tuple[StepRecord, ...], others: tuple[StepRecord, ...]) -> None:
    assert len(steps) == len(others)
    for name in ("loss", "grad_norm", "param_norm", "tokens"):
        ours, theirs = ([getattr(step, name) for step in both] for both in (steps, others))
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, err_msg=name)
    norms = [(a.update_norm, b.update_norm) for a, b in zip(steps, others, strict=True) if a.update_norm is not None]
    assert norms
    np.testing.assert_allclose(*zip(*norms, strict=True), rtol=1e-4)


@pytest.fixture
def folder(train_config: TrainConfig, tmp_path: Path) -> Path:
    train_config.global_train_batch_size = 8
    train_config.save(tmp_path / "config.yaml")
    return tmp_path


@pytest.mark.parametrize(
    ("size", "compute"),
    [
        (2, {}),
        pytest.param(4, {}, marks=pytest.mark.slow),
        (2, {"micro_batch_size": 3, "activation_checkpointing": True}),
    ],
)
def test_several_ranks_give_the_losses_and_norms_of_one(folder: Path, size: int, compute: dict[str, Any]) -> None:
    alone = trained(Ranks(), folder, 12, "alone", {})
    assert min(step.grad_norm for step in alone.steps) > 0.5, "the clipping does something"
    several = together(size, trained, folder, 12, "several", compute)
    for of_one_rank in several:
        assert_alike(of_one_rank.steps, alone.steps)
    key = Store(folder / "alone").keys(KEPT)
    assert Store(folder / "several").keys(KEPT) == key
    for name in ("model", "optim"):
        one, two = (
            safetensors.torch.load_file(folder / store / KEPT / next(iter(key)) / f"{name}.safetensors")
            for store in ("alone", "several")
        )
        assert one.keys() == two.keys()
        for tensor in one:
            torch.testing.assert_close(two[tensor], one[tensor], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("then", [2, 1])
def test_a_state_saved_on_four_ranks_goes_on_on_fewer(folder: Path, then: int) -> None:
    uninterrupted = trained(Ranks(), folder, 16, "alone", {})
    together(4, trained, folder, 10, "several", {})
    further = together(then, trained, folder, 16, "several", {})
    for of_one_rank in further:
        assert of_one_rank.updates_done == 6
        assert_alike(of_one_rank.steps, uninterrupted.steps)


def fails(ranks: Ranks, who: int) -> None:
    if ranks.rank == who:
        raise ValueError("out of paper")
    if who == 0:
        ranks.from_first(lambda: None)
    ranks.mean(torch.zeros(3))
    time.sleep(WAIT_S)


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_fails_ends_all_with_its_message(who: int) -> None:
    answers = together(2, fails, who)
    assert answers[who] == "ValueError: out of paper"
    assert answers[1 - who] == f"RankFailed: rank {who} of 2 failed: ValueError: out of paper"


def killed(ranks: Ranks, who: int) -> None:
    ranks_module.GOODBYE_S = ranks_module.FAILED_S = 1.0
    if ranks.rank == who:
        os.kill(os.getpid(), signal.SIGKILL)
    if who == 0:
        ranks.from_first(lambda: None)
    ranks.mean(torch.zeros(3))
    time.sleep(WAIT_S)


@pytest.mark.parametrize("who", [0, 1])
def test_a_killed_rank_is_not_waited_for(who: int) -> None:
    answers = together(2, killed, who)
    assert answers[who] == "killed"
    assert "Error" in answers[1 - who]


def told(ranks: Ranks) -> tuple[Any, float]:
    found = [list(ranks.from_first(lambda: ("one", os.getpid()))), list(ranks.from_first(lambda: ("two", os.getpid())))]
    return found, float(ranks.mean(torch.tensor(float(ranks.rank))))


def test_all_are_told_what_the_first_one_found() -> None:
    one, two, three = together(3, told)
    assert one == two == three
    assert [word for word, _ in one[0]] == ["one", "two"]
    assert one[1] == 1.0


class Board(dict[str, bytes]):
    """The ranks' store, on which a stranger may write too."""

    def add(self, key: str, number: int) -> int:
        self[key] = b"%d" % (int(self.get(key, b"0")) + number)
        return int(self[key])

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


def test_what_the_ranks_tell_each_other_is_json_and_never_a_pickle(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    assert Ranks(0, 2, board).from_first(lambda: [1, "two", None]) == [1, "two", None]
    assert json.loads(board["first/1"]) == [1, "two", None]
    with pytest.raises(TypeError, match="JSON"):
        Ranks(0, 2, board).from_first(lambda: Path("folder"))
    planted = pickle.dumps(functools.partial(print, "executed"))
    with pytest.raises(ValueError, match="decode"):
        Ranks(1, 2, Board({"first/1": planted})).from_first(lambda: None)
    assert "executed" not in capsys.readouterr().out


def test_a_batch_is_shared_evenly_or_refused() -> None:
    rows = np.arange(8)
    assert np.concatenate([rows[Ranks(rank, 4).share(8)] for rank in range(4)]).tolist() == rows.tolist()
    with pytest.raises(Refusal, match="a batch of 8 instances can't be shared by 3 ranks"):
        Ranks(0, 3).share(8)
