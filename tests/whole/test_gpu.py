"""On a CUDA device: an anneal and the scores equal a CPU's within rounding, also after an interruption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig
from tokenizers import Tokenizer

from sweep.checkpoints import fresh_state
from sweep.data import Continued, Instances, Window
from sweep.domain.records import StepRecord
from sweep.domain.schedule import learning_rates
from sweep.evaluate import TaskRequests, make_pack
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.transformer import Body
from sweep.run.prefix import Training, train
from sweep.run.states import KEPT
from sweep.system.store import Store
from tests.conftest import COMPUTE
from tests.evaluate.conftest import MAX_LENGTH, OLMO2, RULES, core8, make_olmo, tokenizer
from tests.skips import NO_GPU

__all__ = ["core8", "tokenizer"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU),
]

RATES = learning_rates("linear", steps=40, peak=1e-2, hold_steps=10)

Training_ = Callable[..., Training]


@pytest.fixture
def training(train_config: TrainConfig, instances: Instances) -> Training_:
    """The same anneal, on a device."""

    def made(device: str, **compute: object) -> Training:
        position = fresh_state(train_config, device=torch.device("cpu")).position
        order = Continued(num_instances=len(instances), position=position, batch_size=2, shuffle_seed=0)
        return Training(
            name="test",
            base=device,
            rates=RATES,
            start=lambda: fresh_state(train_config, device=torch.device(device)),
            position=position,
            data=Window(instances, order, vocab_size=64),
            max_grad_norm=1.0,
            z_loss=1e-4,
            save_interval=7,
            keep_interval=None,
            device=torch.device(device),
            compute=dataclasses.replace(COMPUTE, **compute),
        )

    return made


def losses(folder: Path, training: Training, **settings: object) -> list[float]:
    return [step.loss for step in train(Store(folder), training, **settings).steps]


@pytest.fixture
def on_cpu(training: Training_, tmp_path: Path) -> list[float]:
    return losses(tmp_path / "cpu", training("cpu"))


def test_an_anneal_has_a_cpus_losses(training: Training_, tmp_path: Path, on_cpu: list[float]) -> None:
    found = losses(tmp_path / "gpu", training("cuda"))
    np.testing.assert_allclose(found, on_cpu, rtol=2e-5)
    assert found[-1] < found[0], "something was learnt, so that equality says something"


@pytest.mark.parametrize(
    "compute",
    [{"micro_batch_size": 1}, {"activation_checkpointing": True}, {"compile": True}],
    ids=lambda compute: next(iter(compute)),
)
def test_how_a_pass_is_made_changes_rounding_alone(
    compute: dict[str, object], training: Training_, tmp_path: Path, on_cpu: list[float]
) -> None:
    np.testing.assert_allclose(losses(tmp_path / "gpu", training("cuda", **compute)), on_cpu, rtol=2e-4)


def test_bf16_follows_fp32(training: Training_, tmp_path: Path, on_cpu: list[float]) -> None:
    found = losses(tmp_path / "gpu", training("cuda", precision="bf16"))
    np.testing.assert_allclose(found, on_cpu, rtol=1e-2)
    assert found != on_cpu


def test_an_interrupted_anneal_goes_on(training: Training_, tmp_path: Path, on_cpu: list[float]) -> None:
    store, compute = Store(tmp_path / "gpu"), training("cuda")

    def stop(record: StepRecord) -> None:
        if record.update == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(store, compute, on_step=stop)
    resumed = train(store, compute)
    assert resumed.updates_done == len(RATES) - 14
    np.testing.assert_allclose([step.loss for step in resumed.steps], on_cpu, rtol=2e-5)
    folder = store.get(KEPT, resumed.key)
    assert folder is not None
    assert (folder / "optim.safetensors").stat().st_size > (folder / "model.safetensors").stat().st_size


@pytest.mark.parametrize("shape", [{}, OLMO2, {"n_kv_heads": 2, "block_group_size": 2, "clip_qkv": 1.0}], ids=str)
def test_scores_are_a_cpus(shape: dict[str, object], core8: dict[str, TaskRequests], tokenizer: Tokenizer) -> None:
    tasks = [core8[name] for name in ("hellaswag", "boolq", "winogrande")]
    pack = make_pack(tasks, tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=900)
    expected = likelihoods(make_olmo(**shape), pack).log_probability
    found = likelihoods(Body(make_olmo(**shape).cuda()), pack).log_probability
    assert found == pytest.approx(expected, abs=2e-4, rel=2e-6)


def test_a_batch_that_does_not_fit_is_halved(
    core8: dict[str, TaskRequests], tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """By a real failure to allocate: all but a few MiB of what this process may take is taken."""
    pack = make_pack(list(core8.values()), tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=900)
    body = Body(make_olmo(d_model=256).cuda())
    expected = likelihoods(body, pack).log_probability
    body.scratch = type(body.scratch)(body.device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 48 * 2**20) / total)
    try:
        found = likelihoods(body, pack).log_probability
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory: going on with" in caplog.text
    assert found == pytest.approx(expected, abs=2e-4, rel=2e-6)
