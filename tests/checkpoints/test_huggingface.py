"""Hub folders become OLMo checkpoints and back: the same tensors, and the logits of the class that owns the layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from olmo.config import ModelConfig, TrainConfig
from olmo.model import OLMo
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    Olmo2Config,
    OlmoConfig,
    PreTrainedModel,
)

from sweep.checkpoints import export_folder, import_folder, load_model, read_config, read_position
from sweep.checkpoints.huggingface import architecture, config_json
from sweep.checkpoints.olmo import write_position
from sweep.checkpoints.tensors import Unreadable, write_tensors
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules

pytestmark = [
    pytest.mark.filterwarnings("ignore:Embedding size is not a multiple of 128"),
    pytest.mark.filterwarnings("ignore:torch.is_autocast_cpu_enabled"),  # ai2-olmo's low_precision norm
]

CPU = torch.device("cpu")
RULES = TextRules(eos_token_id=0)
ROWS = 320
IDS = torch.randint(2, 300, (2, 24), generator=torch.Generator().manual_seed(0))
TRAINING: dict[str, Any] = {
    "seed": 7,
    "global_train_batch_size": 4,
    "optimizer": {"name": "adamw", "learning_rate": 1e-3, "betas": (0.9, 0.95), "weight_decay": 0.1},
    "tokenizer": {"identifier": "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"},
    "precision": "fp32",
}
OLMO1: dict[str, Any] = {
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "mlp_ratio": 4,
    "max_sequence_length": 32,
    "vocab_size": ROWS,
    "embedding_size": ROWS,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "rope": True,
    "include_bias": False,
    "layer_norm_with_affine": False,
    "attention_layer_norm_with_affine": False,
    "activation_type": "swiglu",
    "weight_tying": True,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
    "init_fn": "mitchell",
}
OLMO2: dict[str, Any] = {
    **OLMO1,
    "weight_tying": False,
    "bias_for_layer_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "layer_norm_eps": 1e-6,
    "attention_layer_norm": True,
    "attention_layer_norm_with_affine": True,
    "norm_after": True,
    "rope_theta": 500000,
}
LADDER: dict[str, Any] = {
    **OLMO1,
    "weight_tying": False,
    "bias_for_layer_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "layer_norm_eps": 1e-6,
}
"""allenai/OLMo `scripts/ladder.py`: DataDecide's."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "olmo1": OLMO1,
    "olmo1 untied": {**OLMO1, "weight_tying": False},
    "olmo1 clip_qkv": {**OLMO1, "clip_qkv": 0.02},
    "olmo1 grouped queries": {**OLMO1, "n_kv_heads": 2},
    "olmo1 one key head": {**OLMO1, "multi_query_attention": True},
    "olmo1 padded vocabulary": {**OLMO1, "vocab_size": 300, "embedding_size": 384},
    "olmo1 no embedding_size": {**OLMO1, "embedding_size": None},
    "olmo1 mlp_hidden_size": {**OLMO1, "mlp_hidden_size": 88},
    "olmo1 low_precision norm": {**OLMO1, "layer_norm_type": "low_precision"},
    "olmo1 block groups": {**OLMO1, "block_group_size": 2},
    "ladder": LADDER,
    "ladder grouped queries": {**LADDER, "n_kv_heads": 2, "weight_tying": True},
    "olmo2": OLMO2,
    "olmo2 tied": {**OLMO2, "weight_tying": True},
    "olmo2 grouped queries": {**OLMO2, "n_kv_heads": 2},
    "olmo2 padded vocabulary": {**OLMO2, "vocab_size": 300, "embedding_size": 384},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At most 300 tokens, `<|endoftext|>` and `<|padding|>` first."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    trained_tokenizer(["the annealed model is the model that is annealed\n"] * 9, vocab_size=300).save(str(path))
    return path


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """The model with weights no two of which are alike, norms too, so that no swap of names goes unseen."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = 1.0 if "norm" in name or "ln_f" in name else 0.0
            parameter.copy_(offset + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, TrainConfig, OLMo]:
    """A checkpoint of weights alone, of the architecture that the test is parametrized by."""
    config = TrainConfig.new(**TRAINING, model=ARCHITECTURES[request.param])
    folder = tmp_path / "step100-unsharded"
    folder.mkdir()
    model = spread(OLMo(config.model))
    config.save(folder / "config.yaml")
    write_tensors(model.state_dict(), folder / "model.safetensors")
    write_position(folder, step=100, epoch=0, instances=400, tokens=400 * 32)
    return folder, config, model


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.abs().max() > 0.5, "logits that say something"
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("checkpoint", ARCHITECTURES, indirect=True)
def test_the_export_is_the_model_in_transformers(
    checkpoint: Any, tokenizer: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder, config, model = checkpoint
    [name] = {"olmo1", "olmo2", "ladder"} & set(request.node.callspec.params["checkpoint"].split())
    export_folder(folder, config, tmp_path / "out", tokenizer=tokenizer, rules=RULES)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    own = {"olmo1": "OlmoForCausalLM", "olmo2": "Olmo2ForCausalLM", "ladder": "LlamaForCausalLM"}
    assert type(theirs).__name__ == own[name]
    with torch.no_grad():
        close(theirs(IDS).logits, model(IDS).logits)
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == 0


@pytest.mark.parametrize("checkpoint", ARCHITECTURES, indirect=True)
def test_there_and_back_gives_the_same_tensors(checkpoint: Any, tokenizer: Path, tmp_path: Path) -> None:
    folder, config, model = checkpoint
    export_folder(folder, config, tmp_path / "out", tokenizer=tokenizer, rules=RULES)
    import_folder(tmp_path / "out", tmp_path / "back", training=TRAINING, step=100, tokens=400 * 32)
    found = read_config(tmp_path / "back", optimizer=False)
    again = load_model(tmp_path / "back", found, device=CPU).state_dict()
    flat, _ = OLMo(found.model)._make_state_dict_compatible(dict(model.state_dict()))
    assert set(again) == set(flat)
    assert all(torch.equal(again[name], flat[name]) for name in flat)
    assert read_position(tmp_path / "back", found) == read_position(folder, config)
    with torch.no_grad():
        close(load_model(tmp_path / "back", found, device=CPU).eval()(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("checkpoint", ["olmo1"], indirect=True)
def test_the_exported_tokenizer_gives_the_same_tokens(checkpoint: Any, tokenizer: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder, config, _ = checkpoint
    export_folder(folder, config, tmp_path / "out", tokenizer=tokenizer, rules=RULES)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "the annealed model<|endoftext|>  is\n\n naïve , 漢字 ."
    assert theirs(text).input_ids == Tokenizer.from_file(str(tokenizer)).encode(text).ids
    assert theirs.decode(theirs(text).input_ids) == text
    assert (theirs.eos_token, theirs.eos_token_id) == ("<|endoftext|>", 0)
    assert (theirs.pad_token, theirs.pad_token_id, theirs.model_max_length) == ("<|padding|>", 1, 32)


@pytest.mark.parametrize("checkpoint", ["olmo1"], indirect=True)
def test_a_text_begins_and_ends_as_the_rules_say(checkpoint: Any, tokenizer: Path, tmp_path: Path) -> None:
    folder, config, _ = checkpoint
    export_folder(
        folder, config, tmp_path / "out", tokenizer=tokenizer, rules=TextRules(eos_token_id=5, bos_token_id=6)
    )
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert (written["eos_token_id"], written["bos_token_id"]) == (5, 6)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (theirs.eos_token_id, theirs.bos_token_id) == (5, 6)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("activation_type", "gelu"),
        ("block_type", "llama"),
        ("rope", False),
        ("include_bias", True),
        ("bias_for_layer_norm", True),
        ("embedding_layer_norm", True),
        ("scale_logits", True),
        ("layer_norm_type", "rms"),
        ("layer_norm_with_affine", True),
        ("layer_norm_eps", 1e-6),
        ("attention_layer_norm", True),
    ],
)
def test_an_architecture_without_a_class_is_refused_by_its_setting(setting: str, value: Any) -> None:
    config_json(TrainConfig.new(model=OLMO1).model)
    with pytest.raises(Refusal, match=rf"model\.{setting}={value} has no equal .*model_type=olmo .*allowed: "):
        config_json(TrainConfig.new(model={**OLMO1, setting: value}).model)


def test_olmo2_has_no_clip() -> None:
    with pytest.raises(Refusal, match=r"model\.clip_qkv=8\.0 .*model_type=olmo2 .*allowed: None"):
        config_json(TrainConfig.new(model={**OLMO2, "clip_qkv": 8.0}).model)


@pytest.mark.parametrize("checkpoint", ["olmo1"], indirect=True)
def test_a_tokenizer_larger_than_the_embedding_is_refused(checkpoint: Any, tokenizer: Path, tmp_path: Path) -> None:
    folder, config, _ = checkpoint
    config.model.embedding_size = 100
    with pytest.raises(Refusal, match=r"has \d+ tokens, more than the 100 rows"):
        export_folder(folder, config, tmp_path / "out", tokenizer=tokenizer, rules=RULES)
    assert not (tmp_path / "out").exists()


SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "eos_token_id": 0,
}
NATIVE = {
    "olmo": lambda: OlmoConfig(**SIZES, clip_qkv=0.1),
    "olmo tied": lambda: OlmoConfig(**SIZES, tie_word_embeddings=True),
    "olmo2": lambda: Olmo2Config(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-6, pad_token_id=None),
    "llama": lambda: LlamaConfig(**SIZES, num_key_value_heads=2, rms_norm_eps=1e-6),
    "olmo2 theta": lambda: Olmo2Config(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
}


def snapshot(kind: str, files: str, folder: Path) -> PreTrainedModel:
    """A Hub folder as transformers writes it, and the model in it."""
    model = spread(AutoModelForCausalLM.from_config(NATIVE[kind]()))
    match files:
        case "one file":
            model.save_pretrained(folder)
        case "shards":
            model.save_pretrained(folder, max_shard_size="30KB")
            assert len(list(folder.glob("model-*.safetensors"))) > 1
        case "bin":
            model.config.save_pretrained(folder)
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        case "bin shards":
            model.config.save_pretrained(folder)
            names = list(model.state_dict())
            for name, keys in {"a.bin": names[:5], "b.bin": names[5:]}.items():
                torch.save({key: model.state_dict()[key] for key in keys}, folder / name)
            index = {"weight_map": {key: "a.bin" if key in names[:5] else "b.bin" for key in names}}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return model


@pytest.mark.parametrize("files", ["one file", "shards", "bin", "bin shards"])
@pytest.mark.parametrize("kind", NATIVE)
def test_native_layouts_give_the_logits_of_their_class(kind: str, files: str, tmp_path: Path) -> None:
    theirs = snapshot(kind, files, tmp_path)
    import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=250, tokens=1000 * 32)
    config = read_config(tmp_path / "in", optimizer=False)
    with torch.no_grad():
        close(load_model(tmp_path / "in", config, device=CPU).eval()(IDS).logits, theirs(IDS).logits)
    position = read_position(tmp_path / "in", config)
    assert (position.step, position.instances, position.tokens, position.lr) == (250, 1000, 32000, 0.0)
    assert (position.batch_size, position.data_seed) == (4, 7)


def test_an_old_config_json_has_its_rope_at_the_top(tmp_path: Path) -> None:
    snapshot("olmo2", "one file", tmp_path)
    found = json.loads((tmp_path / "config.json").read_text())
    rope = found.pop("rope_parameters")
    assert architecture({**found, "rope_theta": 500000.0, "rope_scaling": None})["rope_theta"] == 500000
    assert architecture({**found, "rope_parameters": rope})["rope_theta"] == 10000


@pytest.mark.parametrize("model_type", ["hf_olmo", "olmo"])
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", ["olmo1", "olmo1 untied", "olmo1 block groups", "olmo2", "ladder"])
def test_the_hf_olmo_layout_gives_the_logits_of_ai2_olmo(
    kind: str, weights: str, model_type: str, tmp_path: Path
) -> None:
    sizes = ModelConfig(**{**ARCHITECTURES[kind], "init_device": "cpu"})
    model = spread(OLMo(sizes))
    told = {**sizes.asdict(), "init_device": "meta", "flash_attention": True, "use_cache": True}
    told |= {"model_type": model_type, "architectures": ["OLMoForCausalLM"], "transformers_version": "4.44.0"}
    (tmp_path / "config.json").write_text(json.dumps(told, default=str))
    prefixed = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if weights.endswith("bin"):
        torch.save(prefixed, tmp_path / weights)
    else:
        safetensors.torch.save_file(prefixed, tmp_path / weights)
    import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=4 * 32)
    config = read_config(tmp_path / "in", optimizer=False)
    with torch.no_grad():
        logits = load_model(tmp_path / "in", config, device=CPU).eval()(IDS).logits
        assert torch.equal(logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "olmo3"}, "model_type: 'olmo3' is not one of olmo, olmo2, llama, hf_olmo"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu has no equal in ai2-olmo; allowed: silu"),
        ({"attention_bias": True}, "attention_bias=True has no equal"),
        ({"mlp_bias": True}, "mlp_bias=True has no equal"),
        ({"head_dim": 16}, "head_dim=16 has no equal in ai2-olmo; allowed: 8"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 8}}, "rope_type=yarn; ai2-olmo has only default"),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear"}}, "rope_type=linear"),
        ({"rope_parameters": {"rope_theta": 0.5}}, "rope_theta=0.5"),
        ({"hidden_size": ...}, "config.json has no hidden_size"),
    ],
)
def test_what_ai2_olmo_has_not_is_refused(change: dict[str, Any], message: str) -> None:
    values = {**OlmoConfig(**SIZES).to_dict(), **change}
    with pytest.raises(Refusal, match=message):
        architecture({name: value for name, value in values.items() if value is not ...})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.layers.1.self_attn.k_proj.weight": None}, r"have no model\.layers\.1\.self_attn\.k_proj\.weight"),
        ({"model.embed_tokens.weight": None}, r"transformer\.wte\.weight: None, must be \(320, 32\)"),
        ({"lm_head.weight": torch.zeros(300, 32)}, r"transformer\.ff_out\.weight: \(300, 32\), must be \(320, 32\)"),
        ({"model.layers.0.extra.weight": torch.zeros(1)}, r"have model\.layers\.0\.extra\.weight"),
    ],
)
def test_weights_that_are_not_the_architectures_are_an_error(change: Any, message: str, tmp_path: Path) -> None:
    model = snapshot("olmo", "bin", tmp_path)
    weights = {**model.state_dict(), **change}
    torch.save({name: t for name, t in weights.items() if t is not None}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=128)
    assert not (tmp_path / "in").exists()


def test_a_tied_head_must_be_the_embedding(tmp_path: Path) -> None:
    model = snapshot("olmo tied", "bin", tmp_path)
    torch.save({**model.state_dict(), "lm_head.weight": torch.zeros(ROWS, 32)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"lm_head\.weight is not the embedding"):
        import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=128)


class Malicious:
    def __reduce__(self):
        return (print, ("executed",))


def test_an_untrusted_snapshot_executes_and_reaches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot("olmo", "bin", tmp_path)
    torch.save(Malicious(), tmp_path / "pytorch_model.bin")
    with pytest.raises(Unreadable, match="never executed"):
        import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=128)
    assert "executed" not in capsys.readouterr().out
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret.bin"}}))
    with pytest.raises(ValueError, match=r"names \.\./\.\./secret\.bin, which is not in its own folder"):
        import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=128)


def test_a_snapshot_without_weights_says_what_it_may_hold(tmp_path: Path) -> None:
    OlmoConfig(**SIZES).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        import_folder(tmp_path, tmp_path / "in", training=TRAINING, step=1, tokens=128)
    with pytest.raises(ValueError, match=r"don't fit ai2-olmo.*no_such"):
        import_folder(tmp_path, tmp_path / "in", training={"no_such": 1}, step=1, tokens=128)
