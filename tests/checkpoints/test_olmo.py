"""A checkpoint folder is ai2-olmo's unsharded format, read to the bit, in all the spellings it comes in."""

from __future__ import annotations

import functools
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from olmo.config import TrainConfig
from olmo.model import OLMo
from olmo.safetensors_util import safetensors_file_to_state_dict, state_dict_to_safetensors_file

from sweep.checkpoints import (
    TrainingState,
    check_groups,
    decayed,
    identity,
    load_model,
    load_state,
    read_config,
    read_position,
    save_state,
)
from sweep.checkpoints.tensors import Unreadable, read_pt, read_tensors
from sweep.domain.errors import Refusal
from sweep.models import architecture_of
from sweep.system.store import Store
from tests.conftest import EITHER_MODEL

CPU = torch.device("cpu")


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


@EITHER_MODEL
def test_what_is_saved_is_loaded_to_the_bit(folder: Path, trained: TrainingState) -> None:
    loaded = load_state(folder, read_config(folder), device=CPU)
    same(loaded, trained)
    assert loaded.position == trained.position
    assert loaded.position.lr == 3e-3


def test_who_may_read_the_folder_may_read_its_files(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(modes, folder.stat().st_mode & 0o666)


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
    with pytest.raises(Unreadable, match="never executed"):
        read_pt(folder / "model.pt")
    with pytest.raises(Unreadable, match="never executed"):
        load_state(folder, read_config(folder), device=CPU)
    assert "executed" not in capsys.readouterr().out


def test_a_pickle_inside_safetensors_is_not_executed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state_dict_to_safetensors_file({"param_groups": Malicious()}, folder / "optim.safetensors")
    with pytest.raises(Unreadable, match="print"):
        read_tensors(folder, "optim")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["config.yaml", "model.safetensors", "optim.safetensors", "train.pt"])
def test_what_is_missing_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file.split('.')[0]}\.\w+.* is missing"):
        read_config(folder)


def test_weights_alone_are_a_checkpoint_where_they_are_asked_for(folder: Path, trained: TrainingState) -> None:
    (folder / "optim.safetensors").unlink()
    config = read_config(folder, optimizer=False)
    position = read_position(folder, config)
    assert position.lr == 0.0
    assert (position.step, position.instances) == (5, 10)
    (folder / "train.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.pt is missing"):
        read_config(folder, optimizer=False)


def test_loading_the_model_reads_no_moments(folder: Path, trained: TrainingState) -> None:
    config = read_config(folder)
    (folder / "optim.safetensors").write_bytes(b"not a tensor file")
    model = load_model(folder, config, device=CPU)
    for (name, p), (_, q) in zip(model.named_parameters(), trained.model.named_parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize(
    "text",
    ["a: [", "- a\n- list", "just words", "model: 3", "no_such_setting: 1", "seed: ${nowhere}", "\x00", ""],
    ids=["syntax", "list", "words", "type", "unknown key", "interpolation", "binary", "empty"],
)
def test_a_broken_configuration_is_an_error_with_its_path(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text)
    if not text:
        assert read_config(folder) == TrainConfig.new(), "an empty file is one that leaves everything at its default"
        return
    with pytest.raises(ValueError, match=r"step5-unsharded/config\.yaml is not a training configuration"):
        read_config(folder)


GENERATIONS = {
    "today": ({"global_train_examples_seen_this_epoch": 40, "global_train_tokens_seen": 999, "epoch": 1}, (1, 40, 999)),
    "one epoch": ({"global_train_examples_seen": 12, "global_train_tokens_seen": 999}, (0, 12, 999)),
    "examples alone": ({"global_train_examples_seen": 12}, (0, 12, 12 * 16)),
    "data steps": ({"global_data_step": 7}, (0, 7 * 2, 7 * 2 * 16)),
    "steps alone": ({}, (0, 5 * 2, 5 * 2 * 16)),
    "no epoch yet": ({"global_train_examples_seen_this_epoch": 40, "epoch": None}, (0, 40, 10 * 16)),
}
"""Of train.pt, newest first: its keys -> (epoch, instances, tokens) of step 5 with batches of 2 x 16 tokens."""


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_of_train_pt_gives_the_position(folder: Path, generation: str) -> None:
    keys, expected = GENERATIONS[generation]
    torch.save({"global_step": 5, **keys}, folder / "train.pt")
    position = read_position(folder, read_config(folder))
    assert (position.step, position.lr) == (5, 3e-3)
    assert (position.epoch, position.instances, position.tokens) == expected


def test_a_train_pt_without_a_step_is_refused(folder: Path) -> None:
    torch.save({"epoch": 0, "world_size": 1}, folder / "train.pt")
    with pytest.raises(Refusal, match=r"train\.pt has no global_step"):
        read_position(folder, read_config(folder))


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
    for read in (check_groups, functools.partial(load_state, device=CPU)):
        with pytest.raises(ValueError, match=r"no state for transformer\.wte\.weight"):
            read(folder, read_config(folder))


def test_an_optimizer_saved_with_one_group_decays_no_embedding(folder: Path, trained: TrainingState) -> None:
    optim = read_tensors(folder, "optim")
    both = [name for group in optim["param_groups"] for name in group["param_names"]]
    optim["param_groups"] = [{**optim["param_groups"][0], "params": both, "param_names": both}]
    state_dict_to_safetensors_file(optim, folder / "optim.safetensors")
    check_groups(folder, read_config(folder))
    same(load_state(folder, read_config(folder), device=CPU), trained)
    assert [group["weight_decay"] for group in trained.optimizer.param_groups] == [0.1, 0.0]


def test_groups_that_contradict_the_configuration_are_refused(folder: Path) -> None:
    config = read_config(folder)
    config.optimizer.decay_embeddings = True
    for read in (check_groups, functools.partial(load_state, device=CPU)):
        with pytest.raises(ValueError, match=r"'weight_decay': 0\.1.*'weight_decay': 0\.0.*optimizer\.decay_"):
            read(folder, config)
    config.optimizer.decay_embeddings = decayed(folder)["decay_embeddings"]
    check_groups(folder, config)


def test_the_count_of_matrix_parameters(train_config: TrainConfig) -> None:
    model = OLMo(train_config.model)
    assert architecture_of(train_config).matrix_parameters() == sum(p.numel() for p in model.parameters())
    train_config.model.weight_tying = False
    untied = OLMo(train_config.model)
    assert architecture_of(train_config).matrix_parameters() == sum(
        p.numel() for n, p in untied.named_parameters() if "wte" not in n
    )


def test_a_checkpoint_in_the_store_is_named_as_a_copy_elsewhere_without_being_read_again(
    store: Store, trained: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = store.make("checkpoints", "k", lambda folder: save_state(folder, trained))
    name = identity(shutil.copytree(entry, tmp_path / "copy"))
    monkeypatch.delattr("sweep.checkpoints.olmo.file_digest")
    assert identity(entry, known=store.digests("checkpoints", "k")) == name


def test_ai2_olmos_private_renaming_still_does_what_loading_needs(state: TrainingState) -> None:
    """`compatible` is the one use of `OLMo._make_state_dict_compatible`; a release that changes it fails here."""
    weights = state.model.state_dict()
    wrapped = {f"_fsdp_wrapped_module.{name}": tensor for name, tensor in weights.items()}
    renamed = architecture_of(state.model).compatible(state.model, wrapped)
    assert renamed.keys() == weights.keys()
    assert all(renamed[name] is tensor or torch.equal(renamed[name], tensor) for name, tensor in weights.items())
