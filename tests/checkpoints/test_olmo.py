"""A checkpoint folder is ai2-olmo's unsharded format, read to the bit, in all the spellings it comes in."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.safetensors_util import safetensors_file_to_state_dict, state_dict_to_safetensors_file

from sweep.anneal import anneal
from sweep.checkpoints import (
    TrainingState,
    identity,
    load_state,
    matrix_parameters,
    read_config,
    read_position,
    save_state,
)
from sweep.checkpoints.tensors import read_pt, read_tensors
from sweep.data import Instances, advance

CPU = torch.device("cpu")


@pytest.fixture
def trained(state: TrainingState, instances: Instances) -> TrainingState:
    """Five updates in, so that the moments are not zero."""
    batches = [instances.read(np.array([2 * i, 2 * i + 1])) for i in range(5)]
    list(anneal(state.model, state.optimizer, batches, np.full(5, 3e-3), max_grad_norm=1.0))
    state.position = advance(state.position, 5, num_instances=len(instances), batch_size=2, lr=3e-3)
    return state


@pytest.fixture
def folder(trained: TrainingState, tmp_path: Path) -> Path:
    path = tmp_path / "step5-unsharded"
    path.mkdir()
    save_state(path, trained)
    return path


def same(a: TrainingState, b: TrainingState) -> None:
    for (name, p), (_, q) in zip(a.model.named_parameters(), b.model.named_parameters(), strict=True):
        assert torch.equal(p, q), name
    for g, h in zip(a.optimizer.param_groups, b.optimizer.param_groups, strict=True):
        assert {k: g[k] for k in ("lr", "betas", "eps", "weight_decay", "param_names")} == {
            k: h[k] for k in ("lr", "betas", "eps", "weight_decay", "param_names")
        }
        for p, q in zip(g["params"], h["params"], strict=True):
            for moment, tensor in a.optimizer.state[p].items():
                assert torch.equal(tensor, b.optimizer.state[q][moment]), moment


def test_what_is_saved_is_loaded_to_the_bit(folder: Path, trained: TrainingState) -> None:
    loaded = load_state(folder, read_config(folder), device=CPU)
    same(loaded, trained)
    assert loaded.position == trained.position
    assert loaded.position.lr == 3e-3


def test_equal_states_give_equal_bytes(folder: Path, trained: TrainingState, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    save_state(again, load_state(folder, read_config(folder), device=CPU))
    for file in ("model.safetensors", "optim.safetensors", "config.yaml"):
        assert (folder / file).read_bytes() == (again / file).read_bytes(), file
    assert identity(folder) == identity(again)


def test_ai2_olmo_reads_what_is_written(folder: Path, trained: TrainingState) -> None:
    model = OLMo(TrainConfig.load(folder / "config.yaml").model)
    model.load_state_dict(safetensors_file_to_state_dict(folder / "model.safetensors"))
    ids = torch.arange(2, 14)[None]
    assert torch.equal(model(ids).logits, trained.model(ids).logits)
    optim = safetensors_file_to_state_dict(folder / "optim.safetensors")
    assert set(optim["state"]) == {name for name, _ in trained.model.named_parameters()}
    assert torch.load(folder / "train.pt", weights_only=True)["global_step"] == 5


@pytest.mark.parametrize(
    "spelling", ["pt", "olmo safetensors", "plain safetensors", "numbered parameters", "fsdp names"]
)
def test_every_spelling_of_the_format_is_read(folder: Path, trained: TrainingState, spelling: str) -> None:
    model, optim = read_tensors(folder, "model"), read_tensors(folder, "optim")
    for stem in ("model", "optim"):
        (folder / f"{stem}.safetensors").unlink()
    match spelling:
        case "pt":
            torch.save(model, folder / "model.pt")
            torch.save(optim, folder / "optim.pt")
        case "olmo safetensors":
            state_dict_to_safetensors_file(model, folder / "model.safetensors")
            state_dict_to_safetensors_file(optim, folder / "optim.safetensors")
        case "plain safetensors":
            import safetensors.torch

            safetensors.torch.save_file(model, folder / "model.safetensors")
            torch.save(optim, folder / "optim.pt")
        case "numbered parameters":
            torch.save(model, folder / "model.pt")
            torch.save(trained.optimizer.state_dict(), folder / "optim.pt")
        case "fsdp names":
            torch.save(model, folder / "model.pt")
            renamed = {f"_fsdp_wrapped_module.{name}": moments for name, moments in optim["state"].items()}
            groups = [
                {**g, "params": [f"_fsdp_wrapped_module.{n}" for n in g["params"]]} for g in optim["param_groups"]
            ]
            groups = [{**g, "param_names": g["params"]} for g in groups]
            torch.save({"state": renamed, "param_groups": groups}, folder / "optim.pt")
    loaded = load_state(folder, read_config(folder), device=CPU)
    if spelling in ("numbered parameters", "fsdp names"):
        assert loaded.position.lr == 3e-3
    same(loaded, trained)


def test_a_trainers_own_state_with_paths_and_random_states_is_read(folder: Path) -> None:
    train = torch.load(folder / "train.pt", weights_only=True)
    train |= {"checkpoints": [Path("/x/step5")], "rng": {"numpy": np.random.get_state(), "python": (3, (1, 2), None)}}
    torch.save(train, folder / "train.pt")
    assert read_position(folder, read_config(folder)).step == 5


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_an_untrusted_pickle_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], write: Callable) -> None:
    (folder / "model.safetensors").unlink()
    write(Malicious(), folder / "model.pt")
    with pytest.raises(pickle.UnpicklingError):
        read_pt(folder / "model.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_state(folder, read_config(folder), device=CPU)
    assert "executed" not in capsys.readouterr().out


def test_a_pickle_inside_safetensors_is_not_executed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state_dict_to_safetensors_file({"param_groups": Malicious()}, folder / "optim.safetensors")
    with pytest.raises(pickle.UnpicklingError, match="print"):
        read_tensors(folder, "optim")
    assert "executed" not in capsys.readouterr().out


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "train.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.pt is missing"):
        read_config(folder)
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is missing"):
        read_config(folder / "nowhere")


def test_an_optimizer_without_a_parameters_state_is_refused(folder: Path) -> None:
    optim = read_tensors(folder, "optim")
    optim["state"].pop("transformer.wte.weight")
    optim["param_groups"] = [
        {
            **g,
            "params": [n for n in g["params"] if "wte" not in n],
            "param_names": [n for n in g["params"] if "wte" not in n],
        }
        for g in optim["param_groups"]
    ]
    state_dict_to_safetensors_file(optim, folder / "optim.safetensors")
    with pytest.raises(ValueError, match=r"no state for transformer\.wte\.weight"):
        load_state(folder, read_config(folder), device=CPU)


def test_settings_that_change_the_loss_are_refused(folder: Path) -> None:
    config = TrainConfig.load(folder / "config.yaml")
    config.data.generate_doc_lengths = True
    config.save(folder / "config.yaml")
    with pytest.raises(ValueError, match="generate_doc_lengths"):
        read_config(folder)


def test_the_count_of_matrix_parameters(train_config: TrainConfig) -> None:
    model = OLMo(train_config.model)
    assert matrix_parameters(train_config.model) == sum(p.numel() for p in model.parameters())
    train_config.model.weight_tying = False
    untied = OLMo(train_config.model)
    assert matrix_parameters(train_config.model) == sum(
        p.numel() for n, p in untied.named_parameters() if "wte" not in n
    )
