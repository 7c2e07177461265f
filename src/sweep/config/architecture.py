"""The architecture of an embedded model: what of ai2-olmo's `ModelConfig` it may set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweep.domain.errors import shown, unknown

SIZES = ("d_model", "n_layers", "n_heads", "n_kv_heads", "mlp_ratio", "mlp_hidden_size")
"""Whole numbers from 1 to LARGEST_SIZE."""
LARGEST_SIZE, LARGEST = 2**20, 1e9
"""No model comes near: of a size, and of any other number."""
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
    check_fields(chosen)
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


def check_fields(chosen: Mapping[str, Any], *, more: tuple[str, ...] = ()) -> None:
    """ValueError naming the key where one of these fields, or of the `more` sizes, has no allowed value."""
    for key, value in chosen.items():
        _check_field(key, value, (*SIZES, *more))


def _check_field(key: str, value: Any, sizes: tuple[str, ...]) -> None:
    setting = f"model.architecture.{shown(key)}={shown(value)}"
    if key not in (*sizes, *OTHERS):
        raise ValueError(f"{setting}: {unknown(key, (*sizes, *OTHERS))}")
    if key in sizes and (type(value) is not int or not 1 <= value <= LARGEST_SIZE):
        raise ValueError(f"{setting}: must be a whole number, at least 1 and at most {LARGEST_SIZE}")
    if key in OTHERS and not _takes(value, OTHERS[key]):
        allowed = (kind.__name__ if isinstance(kind, type) else kind for kind in OTHERS[key])
        raise ValueError(f"{setting}: must be {' or '.join(allowed)}")


def _takes(value: Any, allowed: tuple[Any, ...]) -> bool:
    """Whether the value has one of the types, or is one of the values; numbers are finite and of a sensible size."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float in allowed or (int in allowed and type(value) is int)
        return number and 0 < value <= LARGEST
    return type(value) in allowed or (isinstance(value, str) and value in allowed)
