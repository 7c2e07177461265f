"""What a revision on the Hub doesn't tell is told by the model's option, in ai2-olmo's own names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from olmo.config import InstanceFilterConfig, TrainConfig
from transformers import OlmoConfig, OlmoForCausalLM

from sweep.checkpoints import load_model, read_config, read_position
from sweep.config import RunConfig, named_step
from sweep.domain.errors import Refusal
from sweep.planning.names import run_key, run_name
from sweep.run import published
from sweep.run.checkpoint import open_checkpoint
from sweep.run.checkpoint_folder import resolve
from sweep.run.prepare import checkpoint_choice
from sweep.run.published import COMMIT, address, published_checkpoint, training_tree
from sweep.system.store import Store
from tests.composing import composed
from tests.models_of_transformers import tiny

FRESH = ("anneal.optimizer=fresh", "anneal.warmup_steps=3", "anneal.peak_lr=1e-3")
SMALL = ("model=datadecide-4m", "model.architecture=null", "model.sequence_length=16", "model.batch_size=2", *FRESH)


@pytest.mark.parametrize("name", ["olmo-1b", "olmo-7b", "olmo2-7b", "datadecide-150m"])
def test_the_training_is_one_that_ai2_olmo_knows(name: str) -> None:
    model = composed(f"model={name}", *FRESH).model
    config = TrainConfig.new(**training_tree(model, 1000))
    assert (config.global_train_batch_size, config.max_grad_norm) == (model.batch_size, 1.0)
    assert config.softmax_auxiliary_loss == (name == "olmo2-7b")
    assert (config.data.instance_filter == InstanceFilterConfig()) == (name == "olmo2-7b")


@pytest.mark.parametrize(
    ("chosen", "way_out"),
    [
        (("model=olmo-1b-0724",), "a folder that has it, with model=local"),
        (("model=olmo2-7b", "checkpoint.step=1000", "checkpoint.source=hub"), "checkpoint.source=http, which has it"),
    ],
)
def test_weights_without_optimizer_are_refused_at_the_door(chosen: tuple[str, ...], way_out: str) -> None:
    complaint = rf"without optimizer state \(allenai/OLMo#796\): take {way_out}, or .*anneal.optimizer=fresh"
    with pytest.raises(Refusal, match=complaint):
        composed(*chosen)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A snapshot of a tiny model in place of the Hub's; what was asked for."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = OlmoConfig(**sizes, vocab_size=64, max_position_embeddings=16, eos_token_id=0, pad_token_id=1)
    torch.manual_seed(0)
    OlmoForCausalLM(config).save_pretrained(tmp_path / "snapshot")
    asked: list[str] = []

    def snapshot(repository: str, revision: str, optimizer: str | None = None) -> Path:
        asked.append(f"{repository}@{revision}" + (f" and {optimizer}" if optimizer else ""))
        return tmp_path / "snapshot"

    monkeypatch.setattr(published, "snapshot", snapshot)
    return asked


def test_a_revision_becomes_a_checkpoint_of_weights_alone_once(store: Store, hub: list[str]) -> None:
    config: RunConfig = composed(*SMALL, "checkpoint.step=1250")
    folder = published_checkpoint(store, checkpoint_choice(config))
    assert published_checkpoint(store, checkpoint_choice(config)) == folder
    assert hub == ["allenai/DataDecide-dolma1_7-4M@step1250-seed-default"], "asked for once"
    found = read_config(folder, optimizer=False)
    position = read_position(folder, found)
    assert (position.step, position.tokens, position.instances, position.lr) == (1250, 1250 * 2 * 16, 2500, 0.0)
    assert (found.optimizer.betas, found.optimizer.weight_decay) == ((0.9, 0.95), 0.05)
    assert sum(p.numel() for p in load_model(folder, found, device=torch.device("cpu")).parameters()) > 0
    published_checkpoint(store, checkpoint_choice(composed(*SMALL, "checkpoint.step=2500", "model.batch_size=4")))
    assert len(hub) == 2, "another step is another checkpoint"


def test_the_address_of_a_hubs_checkpoint_is_that_of_its_commit(store: Store, hub: list[str]) -> None:
    """A branch may move, and a revision may be known by a pattern alone."""
    choice = checkpoint_choice(composed(*SMALL, "checkpoint.step=1250"))
    folder = published_checkpoint(store, choice)
    assert address(choice, folder) == "https://huggingface.co/allenai/DataDecide-dolma1_7-4M/tree/snapshot"
    (folder / COMMIT).unlink()
    assert address(choice, folder).endswith("/tree/step1250-seed-default"), "of an older store"
    wild = checkpoint_choice(composed("model=olmo-1b", "checkpoint.source=hub", "checkpoint.step=1000", *FRESH))
    assert "*" not in address(wild, folder)


def test_the_optimizer_comes_along_where_it_is_gone_on_with(store: Store, hub: list[str], tmp_path: Path) -> None:
    (tmp_path / "snapshot" / "training").mkdir()
    group = {"lr": 3e-4, "betas": (0.9, 0.95), "eps": 1e-8}
    groups = [
        {**group, "weight_decay": decay, "params": [number], "param_names": [name]}
        for number, (name, decay) in enumerate({"transformer.wte.weight": 0.05, "transformer.ln_f.weight": 0.0}.items())
    ]
    torch.save({"state": {}, "param_groups": groups}, tmp_path / "snapshot" / "training" / "optim.pt")
    chosen = (*SMALL[:4], "checkpoint.step=1250")
    folder = published_checkpoint(store, checkpoint_choice(composed(*chosen)))
    assert hub == ["allenai/DataDecide-dolma1_7-4M@step1250-seed-default and training/optim.pt"]
    found = read_config(folder)
    assert read_position(folder, found).lr == 3e-4, "its own word, as no schedule is known"
    assert (found.optimizer.decay_embeddings, found.optimizer.decay_norm_and_bias) == (True, False), "here too"
    assert published_checkpoint(store, checkpoint_choice(composed(*chosen, *FRESH))) != folder
    with pytest.raises(Refusal, match=r"anneal\.peak_lr=null takes the current LR"):
        composed(*chosen, "anneal.optimizer=fresh", "anneal.warmup_steps=3")


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step1000", 1000),
        ("stage1-step-40000", 40000),
        ("stage1-step10000-tokens21B", 10000),
        ("step-50K-105b", 50000),
        ("step0", 0),
        ("main", None),
        ("footstep7", None),
    ],
)
def test_the_step_is_read_from_a_revisions_name(revision: str, step: int | None) -> None:
    assert named_step(revision) == step


def test_any_repository_on_the_hub_has_revisions_as_an_axis(store: Store, hub: list[str], tmp_path: Path) -> None:
    model = tiny("gpt_neox")
    model.save_pretrained(tmp_path / "snapshot")
    (tmp_path / "snapshot" / "tokenizer.json").write_text("{}")
    words = ("model=hub", "checkpoint.repo=EleutherAI/pythia-70m", "model.batch_size=2", *FRESH)
    words += ("data=local", f"data.paths=[{tmp_path / 'snapshot' / 'tokenizer.json'}]")
    first, second = (composed(*words, f"checkpoint.revision=step{step}") for step in (1000, 2000))
    assert run_key(first) != run_key(second)
    assert run_name(first).startswith("hub:pythia-70m@step1000 linear")
    opened = open_checkpoint(store, checkpoint_choice(first), compute=first.compute, device=torch.device("cpu"))
    assert hub == ["EleutherAI/pythia-70m@step1000"]
    assert read_position(opened.folder, opened.config).step == 1000
    assert resolve(store, opened.config.tokenizer.identifier).read_text() == "{}"
    ids = torch.arange(2, 50)[None]
    with torch.no_grad():
        loaded = load_model(opened.folder, opened.config, device=torch.device("cpu")).eval()
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=0)
    assert (
        address(checkpoint_choice(first), opened.folder) == "https://huggingface.co/EleutherAI/pythia-70m/tree/snapshot"
    )


def test_a_batch_size_that_nobody_tells_is_asked_for(store: Store, hub: list[str]) -> None:
    with pytest.raises(Refusal, match=r"model\.batch_size=null: what the Hub doesn't tell of a training must be given"):
        published_checkpoint(store, checkpoint_choice(composed(*SMALL, "model.batch_size=null")))


def test_what_ai2_olmo_has_not_is_refused_by_its_revision(store: Store, hub: list[str], tmp_path: Path) -> None:
    (tmp_path / "snapshot" / "config.json").write_text('{"model_type": "gemmo"}')
    with pytest.raises(Refusal, match=r"allenai/DataDecide-dolma1_7-4M@step5725-seed-default: .*gemmo"):
        published_checkpoint(store, checkpoint_choice(composed(*SMALL)))


@pytest.mark.parametrize(
    ("file", "content"),
    [("model.safetensors", None), ("model.safetensors", b"no weights"), ("config.json", None), ("config.json", b"{")],
)
def test_a_broken_snapshot_is_refused_by_its_revision(
    file: str, content: bytes | None, store: Store, hub: list[str], tmp_path: Path
) -> None:
    (tmp_path / "snapshot" / file).unlink()
    if content is not None:
        (tmp_path / "snapshot" / file).write_bytes(content)
    with pytest.raises(Refusal, match=r"allenai/DataDecide-dolma1_7-4M@step5725-seed-default: "):
        published_checkpoint(store, checkpoint_choice(composed(*SMALL)))
