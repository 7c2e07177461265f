"""A two-layer OLMo and a few thousand tokens: the smallest world that goes through the real code."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig

from sweep.checkpoints import TrainingState, fresh_state, save_state
from sweep.config import Compute
from sweep.data import Instances
from sweep.data.tokenizer import trained_tokenizer
from sweep.models import training_config, transformers_sizes
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.system.store import Store
from sweep.training.loop import UpdateRules, anneal
from tests.models_of_transformers import config_json
from tests.serving import served
from tests.skips import pytest_make_collect_report, pytest_runtest_makereport

__all__ = ["pytest_make_collect_report", "pytest_runtest_makereport", "served"]

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's background job ignores it, as .ci/run has one, and so would all that a test starts and interrupts."""

VOCAB, LENGTH, BATCH = 64, 16, 2
COMPUTE = Compute(
    device="cpu", threads=1, precision="fp32", micro_batch_size=None, activation_checkpointing=False, compile=False
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_log_handlers() -> Iterator[None]:
    """A command that runs in this process leaves a handler, whose stream is closed once its test has ended."""
    before = set(logging.root.handlers)
    yield
    for handler in set(logging.root.handlers) - before:
        if not type(handler).__module__.startswith("_pytest."):
            logging.root.removeHandler(handler)
            handler.close()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


EITHER_MODEL = pytest.mark.parametrize("train_config", ["olmo", "gemma2"], indirect=True)
"""For tests of both sides of the seam. Gemma 2 has all that is hard: a tied head, buffers, windows, capped logits."""


@pytest.fixture
def train_config(tmp_path: Path, request: pytest.FixtureRequest) -> TrainConfig:
    """A tiny model trained at a constant learning rate: OLMo 1's architecture, or that of a family of transformers."""
    tokens = np.random.default_rng(0).integers(2, VOCAB, 200 * LENGTH, dtype=np.uint16)
    tokens.tofile(tmp_path / "train.npy")
    if (family := getattr(request, "param", "olmo")) != "olmo":
        small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
        small |= {"vocab_size": VOCAB, "max_position_embeddings": LENGTH, "sliding_window": 6}
        tree = config_json(family, **small)
        return training_config(**_training(tmp_path), model=transformers_sizes(tree), transformers=tree)
    return TrainConfig.new(
        **_training(tmp_path),
        model={
            "d_model": 16,
            "n_heads": 2,
            "n_layers": 2,
            "mlp_ratio": 4,
            "max_sequence_length": LENGTH,
            "vocab_size": VOCAB,
            "embedding_size": VOCAB,
            "eos_token_id": 0,
            "pad_token_id": 1,
            "rope": True,
            "include_bias": False,
            "bias_for_layer_norm": False,
            "layer_norm_with_affine": False,
            "attention_layer_norm_with_affine": False,
            "activation_type": "swiglu",
            "weight_tying": True,
            "attention_dropout": 0.0,
            "residual_dropout": 0.0,
            "embedding_dropout": 0.0,
            "init_fn": "mitchell",
        },
    )


def _training(folder: Path) -> dict[str, Any]:
    """The settings of a training besides its model."""
    return {
        "seed": 3,
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-2,
            "weight_decay": 0.1,
            "betas": (0.9, 0.95),
            "eps": 1e-8,
        },
        "scheduler": {"name": "constant", "t_warmup": 0},
        "data": {"paths": [str(folder / "train.npy")]},
        "global_train_batch_size": BATCH,
        "max_grad_norm": 1.0,
        "precision": "fp32",
    }


@pytest.fixture
def instances(train_config: TrainConfig, tmp_path: Path) -> Instances:
    return Instances([tmp_path / "train.npy"], sequence_length=LENGTH)


@pytest.fixture
def state(train_config: TrainConfig) -> TrainingState:
    """A training before its first update."""
    return fresh_state(train_config, device=torch.device("cpu"))


@pytest.fixture
def source(state: TrainingState, instances: Instances, train_config: TrainConfig, tmp_path: Path) -> CheckpointFolder:
    """A local checkpoint after 30 updates of 2 instances; its data has 200."""
    batch = instances.read(np.arange(2))
    list(anneal(state.model, state.optimizer, [batch], np.array([1e-2]), UpdateRules(max_grad_norm=1.0)))
    folder = tmp_path / "step30-unsharded"
    folder.mkdir()
    tokenizer = tmp_path / "tokenizer" / "tokenizer.json"
    tokenizer.parent.mkdir()
    tokenizer.write_text(trained_tokenizer(["a text"], vocab_size=300).to_str())
    state.config.tokenizer.identifier = str(tokenizer)
    state.position = dataclasses.replace(state.position, step=30, instances=60, lr=1e-2)
    save_state(folder, state)
    return CheckpointFolder(key="0" * 32, folder=folder, config=state.config)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the real corpus, built once for all workers of this test session.

    Sessions that run side by side share the one in the folder that TEST_CORPUS names.
    """
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    store = Path(os.environ.get("TEST_CORPUS", root)) / "corpus-store"
    build = (
        "import sys; from sweep.system.store import Store; from sweep.run.embedded import prepare_corpus;"
        "prepare_corpus(Store(sys.argv[1]), 2048)"
    )
    subprocess.run([sys.executable, "-c", build, str(store)], check=True, capture_output=True)
    return store
