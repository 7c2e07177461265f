"""The architecture of an embedded model: what of ai2-olmo's `ModelConfig` it may set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.domain.errors import unknown

SIZES = ("d_model", "n_layers", "n_heads", "n_kv_heads", "mlp_ratio", "mlp_hidden_size")
"""Whole numbers from 1."""
OTHERS: dict[str, tuple[Any, ...]] = {
    "clip_qkv": (int, float),
    "rope_theta": (int,),
    "layer_norm_type": ("default", "low_precision", "rms"),
    "layer_norm_eps": (float,),
    "layer_norm_with_affine": (bool,),
    "attention_layer_norm": (bool,),
    "attention_layer_norm_with_affine": (bool,),
    "norm_after": (bool,),
    "include_bias": (bool,),
    "bias_for_layer_norm": (bool,),
    "weight_tying": (bool,),
    "init_fn": ("mitchell", "normal", "kaiming_normal", "fan_in", "full_megatron"),
    "init_std": (float,),
    "init_cutoff_factor": (int, float),
}
"""Name -> the types or the values that it takes."""


def check_architecture(chosen: Mapping[str, Any]) -> None:
    """ValueError naming the key where ai2-olmo could not build the model."""
    for key, value in chosen.items():
        _check_field(key, value)
    if missing := [key for key in ("d_model", "n_layers", "n_heads") if key not in chosen]:
        raise ValueError(f"model.architecture.{missing[0]} is missing: d_model, n_layers and n_heads are needed")
    width, heads = chosen["d_model"], chosen["n_heads"]
    if width % (2 * heads):
        raise ValueError(
            f"model.architecture.d_model={width} must be a multiple of 2 * n_heads = {2 * heads}: "
            "rotary positions turn pairs of each head's dimensions"
        )
    if heads % chosen.get("n_kv_heads", heads):
        raise ValueError(f"model.architecture.n_kv_heads={chosen['n_kv_heads']} must divide n_heads={heads}")
    hidden = chosen.get("mlp_hidden_size", width * chosen.get("mlp_ratio", 4))
    if hidden % 2:
        raise ValueError(f"model.architecture.mlp_hidden_size={hidden} must be even: SwiGLU halves it")


def _check_field(key: str, value: Any) -> None:
    setting = f"model.architecture.{key}={value}"
    if key not in (*SIZES, *OTHERS):
        raise ValueError(f"{setting}: {unknown(key, (*SIZES, *OTHERS))}")
    if key in SIZES and (type(value) is not int or value < 1):
        raise ValueError(f"{setting}: must be a whole number, at least 1")
    if key in OTHERS and type(value) not in OTHERS[key] and value not in OTHERS[key]:
        allowed = (kind.__name__ if isinstance(kind, type) else kind for kind in OTHERS[key])
        raise ValueError(f"{setting}: must be {' or '.join(allowed)}")
