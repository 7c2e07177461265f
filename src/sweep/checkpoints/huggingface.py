"""Converts architectures and tensors between ai2-olmo and transformers' Olmo, Olmo2 and Llama `...ForCausalLM`.

True to `olmo/model.py` of ai2-olmo 0.6.0 and `models/olmo`, `models/olmo2`, `models/llama` of transformers 5:
`att_proj` holds q, k, v, `ff_proj` holds up and gate in that order, and a tied head is the embedding. DataDecide's
models (OLMo's ladder) have RMS norms with weights before each part, which is what Llama's class computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from olmo.config import ModelConfig

from sweep.domain.errors import Refusal, unknown

EITHER: dict[str, tuple[Any, ...]] = {
    "activation_type": ("swiglu",),
    "block_type": ("sequential",),
    "rope": (True,),
    "alibi": (False,),
    "include_bias": (False,),
    "bias_for_layer_norm": (False, None),
    "embedding_layer_norm": (False,),
    "scale_logits": (False,),
}
CLASSES: dict[str, dict[str, tuple[Any, ...]]] = {
    "olmo": {
        **EITHER,
        "norm_after": (False,),
        "layer_norm_type": ("default", "low_precision"),
        "layer_norm_with_affine": (False,),
        "layer_norm_eps": (1e-5,),
        "attention_layer_norm": (False,),
    },
    "olmo2": {
        **EITHER,
        "norm_after": (True,),
        "layer_norm_type": ("rms",),
        "layer_norm_with_affine": (True,),
        "attention_layer_norm": (True,),
        "attention_layer_norm_with_affine": (True,),
        "clip_qkv": (None,),
    },
    "llama": {
        **EITHER,
        "norm_after": (False,),
        "layer_norm_type": ("rms",),
        "layer_norm_with_affine": (True,),
        "attention_layer_norm": (False,),
        "clip_qkv": (None,),
    },
}
"""`model_type` -> the settings its class is made for; the first value is what a native config.json means."""
NOT_OF_THE_HUB = {
    "flash_attention": False,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
    "embedding_dropout": 0.0,
}
"""Settings of a training that a native config.json doesn't have, as the published ones had them."""
ONLY = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
"""Keys of a native config.json that ai2-olmo follows with one value only."""
HEAD = "transformer.ff_out.weight"
TOP = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.norm.weight": "transformer.ln_f.weight",
    "lm_head.weight": HEAD,
}
"""Tensors outside the blocks, transformers' name -> ai2-olmo's; what an architecture lacks is in neither file."""
EITHER_BLOCK = {
    "self_attn.o_proj.weight": "attn_out.weight",
    "mlp.down_proj.weight": "ff_out.weight",
}
BLOCK = {
    "olmo": EITHER_BLOCK,
    "olmo2": {
        **EITHER_BLOCK,
        "self_attn.q_norm.weight": "q_norm.weight",
        "self_attn.k_norm.weight": "k_norm.weight",
        "post_attention_layernorm.weight": "attn_norm.weight",
        "post_feedforward_layernorm.weight": "ff_norm.weight",
    },
    "llama": {
        **EITHER_BLOCK,
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ff_norm.weight",
    },
}
"""Tensors of a block of each `model_type`."""
JOINED = {
    "att_proj.weight": ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    "ff_proj.weight": ("mlp.up_proj.weight", "mlp.gate_proj.weight"),
}
"""Tensors of a block that ai2-olmo holds in one."""


class NoEqual(Refusal):
    """A config.json of which ai2-olmo makes no model."""


def is_hf_olmo(config_json: Mapping[str, Any]) -> bool:
    """Whether config.json holds the fields of ai2-olmo's `ModelConfig`; some other models have a `d_model`, too."""
    return "d_model" in config_json and config_json.get("model_type", "hf_olmo") in ("olmo", "hf_olmo")


def architecture(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ai2-olmo's `ModelConfig` for a Hub folder's config.json; NoEqual if OLMo has no such architecture.

    Four layouts are read: `olmo`, `olmo2`, `llama`, and `hf_olmo`, whose config.json holds the fields of `ModelConfig`
    themselves (it also has `model_type: olmo`, from before transformers had a class of that name).
    """
    if not isinstance(config_json, Mapping):
        raise Refusal("config.json is not a JSON object")
    if is_hf_olmo(config_json):
        names = {field.name for field in fields(ModelConfig)} - {"init_device", "precision"}
        return {name: value for name, value in config_json.items() if name in names}
    kind = config_json.get("model_type", "none")
    if kind not in CLASSES:
        raise NoEqual(f"config.json: model_type: {unknown(str(kind), [*CLASSES, 'hf_olmo'])}")
    try:
        return _sizes(config_json, kind)
    except KeyError as error:
        raise Refusal(f"config.json has no {error.args[0]}") from error
    except (TypeError, AttributeError, ZeroDivisionError) as error:
        raise Refusal(f"config.json: a size is not a whole number above 0: {error}") from error


def _sizes(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The architecture of a native config.json of this `model_type`; KeyError names what it must have and lacks."""
    width, heads, rows = given["hidden_size"], given["num_attention_heads"], given["vocab_size"]
    for name, value in {**ONLY, "head_dim": width // heads}.items():
        if given.get(name, value) != value:
            raise NoEqual(f"config.json: {name}={given[name]} has no equal in ai2-olmo; allowed: {value}")
    own = {"clip_qkv": given.get("clip_qkv")} if kind == "olmo" else {"layer_norm_eps": given["rms_norm_eps"]}
    eos, padding = given.get("eos_token_id", 50279), given.get("pad_token_id", 1)
    eos = eos[0] if isinstance(eos, list) else eos
    return {
        **NOT_OF_THE_HUB,
        **{name: allowed[0] for name, allowed in CLASSES[kind].items()},
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": given.get("num_key_value_heads") or heads,
        "n_layers": given["num_hidden_layers"],
        "mlp_hidden_size": 2 * given["intermediate_size"],
        "max_sequence_length": given["max_position_embeddings"],
        "rope_theta": _rope_theta(given),
        "vocab_size": rows,
        "embedding_size": rows,
        "weight_tying": given.get("tie_word_embeddings", False),
        "eos_token_id": eos,
        "pad_token_id": eos if padding is None else padding,
        **own,
    }


def _rope_theta(given: Mapping[str, Any]) -> int:
    """The base of the rotary positions, which transformers 4 and 5 write in different places."""
    rope = given.get("rope_parameters") or given.get("rope_scaling") or {}
    if (shape := rope.get("rope_type", rope.get("type", "default"))) != "default":
        raise NoEqual(f"config.json: rope_type={shape}; ai2-olmo has only default")
    theta = rope.get("rope_theta", given.get("rope_theta", 10000))
    if theta != int(theta):
        raise NoEqual(f"config.json: rope_theta={theta}; ai2-olmo has only whole numbers")
    return int(theta)


def config_json(config: ModelConfig) -> dict[str, Any]:
    """The native config.json of an architecture; Refusal names a setting that no class has, and what is allowed."""
    kind = _kind(config)
    for name, allowed in CLASSES[kind].items():
        if (value := getattr(config, name)) not in allowed:
            raise Refusal(
                f"model.{name}={value} has no equal in transformers' class for model_type={kind} "
                f"(model.norm_after={config.norm_after}); allowed: {', '.join(map(str, allowed))}"
            )
    hidden = config.mlp_hidden_size if config.mlp_hidden_size is not None else config.mlp_ratio * config.d_model
    own = {"clip_qkv": config.clip_qkv} if kind == "olmo" else {"rms_norm_eps": config.layer_norm_eps}
    if windows := getattr(config, "windows", None):
        kind, own = "olmo3", {**own, **_window_keys(windows)}
    return {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "vocab_size": config.embedding_size or config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": hidden // 2,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.effective_n_kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_sequence_length,
        "rope_theta": float(config.rope_theta),
        "rope_scaling": None,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": config.init_std,
        "tie_word_embeddings": config.weight_tying,
        "bos_token_id": None,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "use_cache": True,
        **own,
    }


def _window_keys(windows: Sequence[int]) -> dict[str, Any]:
    """How OLMo 3's config.json says which layers attend in windows; Refusal if the windows are of several widths."""
    widths = sorted({width for width in windows if width != -1})
    if len(widths) > 1:
        raise Refusal(f"model.windows={list(windows)}: transformers' Olmo3 has windows of one width alone")
    kinds = ["full_attention" if width == -1 else "sliding_attention" for width in windows]
    return {"layer_types": kinds, "sliding_window": widths[0] if widths else None}


def from_native(tensors: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """ai2-olmo's state dict for a native one; ValueError if a tensor is missing or the architecture has no such tensor.

    A tied head that the file holds a second time must equal the embedding.
    """
    remaining = {name: tensor for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq")}
    weights = {ours: remaining.pop(theirs) for theirs, ours in TOP.items() if theirs in remaining}
    if (
        config.weight_tying
        and (head := weights.pop(HEAD, None)) is not None
        and not torch.equal(head, weights["transformer.wte.weight"])
    ):
        raise ValueError("config.json has tie_word_embeddings=true, but lm_head.weight is not the embedding")
    for index in range(len({name.split(".")[2] for name in remaining if name.startswith("model.layers.")})):
        theirs, ours = f"model.layers.{index}.", f"transformer.blocks.{index}."
        for name, parts in JOINED.items():
            if missing := [part for part in parts if theirs + part not in remaining]:
                raise ValueError(f"the weights have no {theirs}{missing[0]}")
            weights[ours + name] = torch.cat([remaining.pop(theirs + part) for part in parts])
        for part, name in BLOCK[_kind(config)].items():
            if theirs + part in remaining:
                weights[ours + name] = remaining.pop(theirs + part)
    if remaining:
        raise ValueError(f"the weights have {', '.join(sorted(remaining)[:3])}, which ai2-olmo's model has not")
    return weights


def to_native(tensors: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """The native state dict of ai2-olmo's, with `block_group_size` 1; inverse of `from_native`."""
    native = {theirs: tensors[ours] for theirs, ours in TOP.items() if ours in tensors}
    kv, block = config.d_model // config.n_heads * config.effective_n_kv_heads, BLOCK[_kind(config)]
    for index in range(config.n_layers):
        theirs, ours = f"model.layers.{index}.", f"transformer.blocks.{index}."
        for name, parts in JOINED.items():
            rows = [config.d_model, kv, kv] if name == "att_proj.weight" else len(tensors[ours + name]) // 2
            split = tensors[ours + name].split(rows)
            native |= {theirs + part: tensor for part, tensor in zip(parts, split, strict=True)}
        native |= {theirs + part: tensors[ours + name] for part, name in block.items() if ours + name in tensors}
    return {name: tensor.contiguous() for name, tensor in native.items()}


def _kind(config: ModelConfig) -> str:
    """The `model_type` whose class has this architecture, or comes closest."""
    if config.norm_after:
        return "olmo2"
    return "llama" if config.layer_norm_type == "rms" and config.layer_norm_with_affine else "olmo"
