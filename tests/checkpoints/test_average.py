"""An average of checkpoint folders: its numbers, what it carries, and folders that don't belong together."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.checkpoints import average_folders, load_model, read_config, read_position, weights_key
from sweep.checkpoints.tensors import read_tensors, write_tensors
from sweep.run.checkpoint_folder import CheckpointFolder

CPU = torch.device("cpu")


def changed(source: CheckpointFolder, folder: Path, *, scale: float) -> Path:
    """A copy of the checkpoint whose weights are scaled."""
    shutil.copytree(source.folder, folder)
    weights = {name: scale * tensor for name, tensor in read_tensors(folder, "model").items()}
    write_tensors(weights, folder / "model.safetensors")
    return folder


def test_every_tensor_is_the_weighted_sum(source: CheckpointFolder, tmp_path: Path) -> None:
    tripled, into = changed(source, tmp_path / "tripled", scale=3), tmp_path / "average"
    into.mkdir()
    seen: list[float] = []
    average_folders([tripled, source.folder], np.array([0.25, 0.75]), into, progress=seen.append)
    own, found = read_tensors(source.folder, "model"), read_tensors(into, "model")
    assert found.keys() == own.keys()
    for name, tensor in found.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, 1.5 * own[name], rtol=1e-6, atol=0)
    assert seen[-1] == 1.0


def test_the_average_of_a_checkpoint_with_itself_is_that_checkpoint_to_the_bit(
    source: CheckpointFolder, tmp_path: Path
) -> None:
    average_folders([source.folder, source.folder], np.array([0.5, 0.5]), tmp_path)
    for name, tensor in read_tensors(source.folder, "model").items():
        assert torch.equal(read_tensors(tmp_path, "model")[name], tensor)


def test_it_is_a_checkpoint_of_weights_alone_where_the_last_one_stands(
    source: CheckpointFolder, tmp_path: Path
) -> None:
    average_folders([source.folder, source.folder], np.array([0.5, 0.5]), tmp_path)
    config = read_config(tmp_path, optimizer=False)
    position = read_position(tmp_path, config)
    assert (position.step, position.instances, position.lr) == (30, 60, 0.0)
    assert load_model(tmp_path, config, device=CPU).config.d_model == 16
    with pytest.raises(FileNotFoundError, match=r"optim\..* is missing"):
        read_config(tmp_path)


def test_pt_and_bf16_weights_are_averaged_too(source: CheckpointFolder, tmp_path: Path) -> None:
    old = changed(source, tmp_path / "old", scale=1)
    halves = {name: tensor.bfloat16() for name, tensor in read_tensors(source.folder, "model").items()}
    torch.save(halves, old / "model.pt")
    (old / "model.safetensors").unlink()
    into = tmp_path / "average"
    into.mkdir()
    average_folders([old, source.folder], np.array([1.0, 0.0]), into)
    for name, tensor in read_tensors(into, "model").items():
        assert torch.equal(tensor, halves[name].float())


def test_folders_of_two_models_are_refused(source: CheckpointFolder, tmp_path: Path) -> None:
    other = changed(source, tmp_path / "other", scale=1)
    weights = read_tensors(other, "model")
    name = next(iter(weights))
    write_tensors({**weights, name: weights[name][:, :8].contiguous()}, other / "model.safetensors")
    with pytest.raises(ValueError, match=rf"has {name} of shape"):
        average_folders([other, source.folder], np.array([0.5, 0.5]), tmp_path)
    del weights[name]
    write_tensors(weights, other / "model.safetensors")
    with pytest.raises(ValueError, match=f"not of one model: only one of them has {name}"):
        average_folders([other, source.folder], np.array([0.5, 0.5]), tmp_path)


def test_weights_that_are_not_finite_are_not_averaged(source: CheckpointFolder, tmp_path: Path) -> None:
    other = changed(source, tmp_path / "other", scale=float("nan"))
    name = next(iter(read_tensors(other, "model")))
    with pytest.raises(ValueError, match=rf"other: {name} has .* numbers that are NaN or infinite"):
        average_folders([other, source.folder], np.array([0.5, 0.5]), tmp_path)


def test_weights_are_named_by_the_file_that_is_read(source: CheckpointFolder) -> None:
    key = weights_key(source.folder)
    torch.save({}, source.folder / "model.pt")
    assert weights_key(source.folder) == key, "model.safetensors goes before model.pt"
