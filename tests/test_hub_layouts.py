"""Weights of the Hub, in each of its layouts: fetched by its own client, annealed with a fresh optimizer, exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from olmo.config import ModelConfig
from olmo.model import OLMo
from transformers import AutoModelForCausalLM, Olmo2Config, OlmoConfig

from sweep.checkpoints import load_model, read_config
from sweep.data.tokenizer import trained_tokenizer
from sweep.tracking import read
from tests.checkpoints.hub_server import Hub, serving_hub

LENGTH = 256
SIZES = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "eos_token_id": 0}
HEADS = {"num_attention_heads": 2, "max_position_embeddings": LENGTH, "pad_token_id": 1}
LAYOUTS = {
    "olmo": ("olmo-7b-0424", 477000, "allenai/OLMo-7B-0424-hf", "step477000-tokens2000B"),
    "olmo2": ("olmo2-1b", 10000, "allenai/OLMo-2-0425-1B", "stage1-step10000-tokens21B"),
    "hf_olmo": ("datadecide-4m", 1250, "allenai/DataDecide-dolma1_7-4M", "step1250-seed-default"),
}
"""Layout -> an option of this kind, its step, repository and revision."""


def write_snapshot(layout: str, folder: Path) -> None:
    """A small model in the Hub's layout."""
    torch.manual_seed(0)
    if layout != "hf_olmo":
        kind = OlmoConfig if layout == "olmo" else Olmo2Config
        AutoModelForCausalLM.from_config(kind(**SIZES, **HEADS)).save_pretrained(folder)
        return
    sizes: dict[str, Any] = {"d_model": 16, "n_heads": 2, "n_layers": 2, "mlp_hidden_size": 64, "rope": True}
    sizes |= {"vocab_size": 300, "embedding_size": 300, "eos_token_id": 0, "max_sequence_length": LENGTH}
    sizes |= {
        "layer_norm_with_affine": False,
        "include_bias": False,
        "bias_for_layer_norm": False,
        "weight_tying": False,
    }
    sizes |= {"activation_type": "swiglu", "attention_layer_norm_with_affine": False, "init_device": "cpu"}
    sizes |= {"attention_dropout": 0.0, "residual_dropout": 0.0, "embedding_dropout": 0.0}
    model = OLMo(ModelConfig(**sizes))
    told = {**model.config.asdict(), "model_type": "hf_olmo", "architectures": ["OLMoForCausalLM"]}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(told, default=str))
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")


def door(module: str, *words: str, home: Path, **variables: str) -> str:
    """What the command printed; it must have gone well."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=home, env={**os.environ, **variables}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_the_hub_are_annealed_and_exported(layout: str, tmp_path: Path) -> None:
    name, step, repository, revision = LAYOUTS[layout]
    write_snapshot(layout, tmp_path / "snapshot")
    trained_tokenizer(["the annealed model\n"] * 9, vocab_size=300).save(str(tmp_path / "tokenizer.json"))
    np.random.default_rng(0).integers(2, 280, 40 * LENGTH).astype(np.uint16).tofile(tmp_path / "mine.npy")
    own = (f"model.sequence_length={LENGTH}", "model.batch_size=2", "model.architecture=null", "model.parameters=null")
    words = (
        f"model={name}",
        f"checkpoint.step={step}",
        "checkpoint.source=hub",
        *own,
        "data=local",
        "data.dtype=uint16",
    )
    files = ("data.paths=mine.npy", "data.tokenizer=tokenizer.json", "tasks.limit=2", "tracking=none")
    fresh = ("anneal.steps=4", "anneal.optimizer=fresh", "anneal.warmup_steps=2", "anneal.peak_lr=1e-3")
    files_of = {file.name: file.read_bytes() for file in (tmp_path / "snapshot").iterdir()}
    with serving_hub(Hub(repository, {revision: files_of}, cut_after=5000)) as hub:
        variables = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        door("sweep", *words, *files, *fresh, home=tmp_path, **variables)
    [journal] = (tmp_path / "multirun" / "main").glob("*/journal.jsonl")
    events = read(journal.parent)
    assert "optimizer=fresh" in journal.parent.name
    assert events.attempts[0]["params"]["anneal.optimizer"] == "fresh"
    assert [record["lr"] for record in events.steps] == [5e-4, 1e-3, 5e-4, 0.0]
    assert events.outcome is not None
    result = events.outcome["result"]
    assert (result["position"]["step"], result["position"]["lr"]) == (step, 0.0)

    door("sweep.export", journal.parent.name, "out", "--tokenizer", "tokenizer.json", home=tmp_path)
    state = tmp_path / "multirun" / "store" / "states" / result["final_state"]
    ids = torch.arange(2, 66).reshape(2, 32)
    with torch.no_grad():
        ours = load_model(state, read_config(state), device=torch.device("cpu")).eval()(ids).logits
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")(ids).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
