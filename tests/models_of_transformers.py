"""Tiny models of transformers with random weights, one of each family that people anneal."""

from __future__ import annotations

from typing import Any

import torch

from sweep.models import build

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
SLIDING = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
NO_DROPOUT = {"attention_dropout": 0.0, "hidden_dropout": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": 24},
    "gemma2": {"query_pre_attn_scalar": 8, "hidden_activation": "gelu_pytorch_tanh", **SLIDING},
    "gemma3_text": {"query_pre_attn_scalar": 8, **SLIDING},
    "gpt_neox": {"rotary_pct": 0.5, **NO_DROPOUT},
    "phi": {"num_key_value_heads": 4, "partial_rotary_factor": 0.5, **NO_DROPOUT},
    "smollm3": {"no_rope_layers": [1, 0]},
    "olmo": {"clip_qkv": 2.0},
    "olmo2": {},
    "olmo3": SLIDING,
}
"""`model_type` -> what its config.json has beside or in place of SIZES."""


def config_json(family: str, **more: Any) -> dict[str, Any]:
    """The config.json of a tiny model."""
    return {"model_type": family, **SIZES, **FAMILIES.get(family, {}), **more}


def tiny(family: str, **more: Any) -> Any:
    """The model, its random weights large enough for its choices to differ."""
    torch.manual_seed(0)
    model = build(config_json(family, **more))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return model.eval()
