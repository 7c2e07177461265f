"""A setting that changes the updates is followed or refused, never ignored."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import olmo
import pytest
from olmo.config import TrainConfig

from sweep.checkpoints import check_followed, data_paths, read_config, read_position, z_loss
from sweep.checkpoints.settings import FOLLOWED, Z_LOSS, check_clipping
from sweep.domain.errors import Refusal

UNFOLLOWED: dict[str, Any] = {
    "optimizer.name": "lionw",
    "optimizer.selective_updates": True,
    "max_grad_norm_ratio": 2.0,
    "data.label_mask_paths": ["mask.npy"],
    "data.generate_attention_mask": True,
    "data.generate_doc_lengths": True,
    "model.attention_dropout": 0.1,
    "model.residual_dropout": 0.1,
    "model.embedding_dropout": 0.1,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_not_followed_is_refused(train_config: TrainConfig, tmp_path: Path, name: str) -> None:
    check_followed(train_config)
    train_config.save(tmp_path / "config.yaml")
    value = UNFOLLOWED[name]
    config = TrainConfig.load(tmp_path / "config.yaml", [f"{name}={value}"], validate_paths=False)
    with pytest.raises(Refusal, match=rf"has {name}=.*not followed; allowed: "):
        check_followed(config)


@pytest.mark.parametrize(
    "harmless",
    ["optimizer.record_update_metrics=true", "fsdp.precision=mixed", "precision=amp_bf16", "compile.backend=inductor"],
)
def test_what_changes_no_update_is_let_through(train_config: TrainConfig, tmp_path: Path, harmless: str) -> None:
    train_config.save(tmp_path / "config.yaml")
    check_followed(TrainConfig.load(tmp_path / "config.yaml", [harmless], validate_paths=False))


def test_a_clip_that_is_still_warming_up_is_refused(folder: Path) -> None:
    config = read_config(folder)
    config.scheduler.grad_clip_warmup_factor = 5.0
    config.scheduler.grad_clip_warmup_steps = 4
    position = read_position(folder, config)
    config.scheduler.grad_clip_warmup_steps = 5
    with pytest.raises(Refusal, match=r"scheduler\.grad_clip_warmup_steps=5 steps.*stands at 5.*later checkpoints"):
        check_clipping(config, position)
    check_clipping(config, dataclasses.replace(position, step=6))
    config.scheduler.units = "tokens"
    check_clipping(config, position)


@pytest.mark.parametrize("multiplier", [1e-4, 1e-5])
def test_the_z_loss_is_that_of_the_trainer(train_config: TrainConfig, multiplier: float) -> None:
    train_config.auxiliary_loss_multiplier = multiplier
    assert z_loss(train_config) == 0.0
    train_config.softmax_auxiliary_loss = True
    assert z_loss(train_config) == Z_LOSS
    trainer = (Path(olmo.__file__).parent / "train.py").read_text()
    assert "auxiliary_loss_multiplier" not in trainer, "ai2-olmo now reads the setting: follow it"
    assert f"z_loss_multiplier: float = {Z_LOSS:.0e}".replace("-04", "-4") in trainer


def test_the_fused_loss_has_a_z_loss_in_any_case(train_config: TrainConfig) -> None:
    train_config.fused_loss = True
    assert z_loss(train_config) == Z_LOSS


def test_named_datasets_are_read_in_the_order_of_their_names(train_config: TrainConfig, tmp_path: Path) -> None:
    assert data_paths(train_config) == (str(tmp_path / "train.npy"),)
    train_config.data.paths = None
    train_config.data.datasets = {"web": ["w.npy"], "code": ["c2.npy", "c1.npy"]}
    assert data_paths(train_config) == ("c2.npy", "c1.npy", "w.npy")
