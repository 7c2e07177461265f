"""What config.json of an OLMo-core training means in ai2-olmo's terms; what isn't followed is refused by its name."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo.config import BaseConfig, ModelConfig, TrainConfig

from sweep.checkpoints.huggingface import architecture
from sweep.checkpoints.tensors import Unreadable

Fields = dict[str, tuple[Any, ...]]
"""Name of a setting -> the values that are followed; a setting that is missing or null has OLMo-core's default."""
NORM: Fields = {"name": ("rms", "fused_rms"), "bias": (False,), "elementwise_affine": (True,)}
MODEL: Fields = {
    "name": ("default",),
    "embedding_norm": (),
    "freeze_params": ([],),
    "block_pattern": ([],),
    "block_overrides": ({},),
    "embed_scale": (1, 1.0),
    "tie_word_embeddings": (False,),
}
BLOCK: Fields = {
    "name": ("reordered_norm",),
    "feed_forward_moe": (),
    "dropout": (0, 0.0),
    "attention_residual_alpha": (),
    "feed_forward_residual_alpha": (),
}
ATTENTION: Fields = {
    "name": ("default",),
    "bias": (False,),
    "gate": (),
    "clip_qkv": (),
    "dropout": (0, 0.0),
    "use_head_qk_norm": (False,),
    "qk_norm_per_head_gains": (False,),
    "scalable_softmax": (False,),
    "attention_sinks": (False,),
}
ROPE: Fields = {
    "name": ("default",),
    "scaling": (),
    "no_global_rope": (False,),
    "partial_rotary_factor": (1.0,),
    "full_precision": (True,),
}
FEED_FORWARD: Fields = {"name": ("default",), "bias": (False,), "activation": ("silu",)}
HEAD: Fields = {"name": ("default",), "bias": (False,)}
DATASET: Fields = {
    "generate_doc_lengths": (False,),  # document masking
    "label_mask_paths": ([],),
    "source_mixture_config": (),
    "source_permutation_seed": (),
}
OPTIMIZERS = {"adamw": "adamw", "AdamWConfig": "adamw", "SkipStepAdamWConfig": "skip", "skip_step_adamw": "skip"}
"""The optimizer's `type`, or the last part of its `_CLASS_` -> what is followed."""
LARGEST, MOST_LAYERS = 1 << 24, 10_000
"""No size of a model comes near."""
DTYPES = ("uint8", "uint16", "uint32", "uint64")


@dataclass
class OlmoCoreModel(ModelConfig):
    """ai2-olmo's architecture with attention in windows."""

    windows: list[int] | None = None
    """For each layer how many tokens a token attends to, itself among them; -1: all before it. None: -1 for all."""


@dataclass
class OptimizerGroup(BaseConfig):
    """Parameters that share their settings."""

    params: list[str] | None = None
    """Their names; None: all that no other group names."""
    lr_ratio: float = 1.0
    """Their learning rate over that of the first group."""
    weight_decay: float = 0.0


@dataclass
class OlmoCoreRules(BaseConfig):
    """How OLMo-core's update and data order differ from ai2-olmo's."""

    z_loss: float = 0.0
    skip_sigma: float | None = None
    """An update is skipped whose loss or gradient is so many standard deviations above its mean; None: none is."""
    skip_window: int = 128
    """The mean is that of so many updates before."""
    counts_steps: bool = True
    """False: Adam's step count stays where it is, as in SkipStepAdamW before release 2.2."""
    moments: str = "float32"
    """Data type of Adam's moments."""
    foreach: bool = True
    """How moments that are not float32 are rounded."""
    chunk: int = 1
    """Instances that stay neighbours when the data are shuffled."""
    groups: list[OptimizerGroup] = field(default_factory=list)


@dataclass
class OlmoCoreTraining(TrainConfig):
    """The configuration of a training of OLMo-core: ai2-olmo's, and what that has no place for."""

    model: OlmoCoreModel = field(default_factory=OlmoCoreModel)
    olmo_core: OlmoCoreRules = field(default_factory=OlmoCoreRules)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, its older spellings translated; Unreadable if it asks for a thing that is not followed."""
    file = folder / "config.json"
    try:
        text = file.read_text()
        config = json.loads(text)
    except FileNotFoundError:
        raise Unreadable(f"{file} is not there") from None
    except ValueError as error:
        raise Unreadable(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("model", "dataset")):
        raise Unreadable(f"{file} is no configuration of OLMo-core: it has no model or no dataset")
    if "${" in text:
        raise Unreadable(f"{file} has ${{ in one of its values, which a configuration would replace: take it out")
    config = {**config, "model": _with_head(config["model"]), "train_module": _train_module(config)}
    try:
        faults = [*_faults(config)]
    except (AttributeError, TypeError, KeyError) as error:
        raise Unreadable(f"{file} is no configuration of OLMo-core: {type(error).__name__}: {error}") from None
    if faults:
        raise Unreadable(f"{file}: {faults[0]}")
    return config


def _with_head(model: dict[str, Any]) -> dict[str, Any]:
    """The model's settings; releases before 1.7 had no `lm_head`, but its norm and its bias beside the blocks."""
    if "lm_head" in model or "layer_norm" not in model:
        return model
    return {**model, "lm_head": {"layer_norm": model["layer_norm"], "bias": model.get("bias", True)}}


def _train_module(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the update; releases before 2.0 had them in several places."""
    if isinstance(module := config.get("train_module"), dict):
        return module
    trainer = config.get("trainer") or {}
    clipper = (trainer.get("callbacks") or {}).get("grad_clipper") or {}
    return {
        "optim": config.get("optim") or {},
        "z_loss_multiplier": trainer.get("z_loss_multiplier"),
        "max_grad_norm": clipper.get("max_grad_norm"),
        "float8_config": (config.get("model") or {}).get("float8_config"),
    }


def attention_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the attention, called `attention` before release 2.5."""
    block = config["model"]["block"]
    found: dict[str, Any] = block.get("sequence_mixer") or block["attention"]
    return found


def _faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Each setting that is not followed: its dotted key, its value, and what is allowed."""
    model, data, module = config["model"], config["dataset"], config["train_module"]
    block, attention = model["block"], attention_of(config)
    yield from _size_faults(model, attention, data)
    yield from _other_values("model", model, MODEL)
    yield from _other_values("model.block", block, BLOCK)
    yield from _other_values("model.block.attention", attention, ATTENTION)
    rope = attention.get("rope")
    yield from _other_values("model.block.attention.rope", rope or {"name": None}, ROPE)
    if rope is None:
        yield "model.block.attention.rope=null is not followed"
    yield from _other_values("model.block.feed_forward", block["feed_forward"], FEED_FORWARD)
    yield from _other_values("model.lm_head", model["lm_head"], HEAD)
    norms = {
        "model.block.layer_norm": block.get("layer_norm"),
        "model.block.attention.qk_norm": attention.get("qk_norm"),
        "model.lm_head.layer_norm": model["lm_head"].get("layer_norm"),
    }
    for key, norm in norms.items():
        if not isinstance(norm, dict):
            yield f"{key}={norm} is not followed; allowed: an RMS norm"
        else:
            yield from _other_values(key, {"name": "default", **norm}, NORM)
    if len(eps := {str(norm.get("eps")) for norm in norms.values() if isinstance(norm, dict)}) > 1:
        yield f"model: norms with different eps, {', '.join(sorted(eps))}, are not followed"
    head_dim = attention.get("head_dim")
    if head_dim is not None and head_dim * attention["n_heads"] != model["d_model"]:
        yield f"model.block.attention.head_dim={head_dim} is not followed; allowed: d_model / n_heads"
    yield from _data_faults(data, config.get("data_loader") or {})
    if (module.get("float8_config") or {}).get("enabled", bool(module.get("float8_config"))):
        yield "train_module.float8_config is not followed; allowed: null"
    kind = str(module["optim"].get("type") or module["optim"].get("_CLASS_", "")).rpartition(".")[2]
    if kind not in OPTIMIZERS:
        yield f"train_module.optim.type={kind} is not followed; allowed: adamw, skip_step_adamw"


def _size_faults(model: Mapping[str, Any], attention: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    sizes = {
        **{f"model.{name}": model.get(name) for name in ("d_model", "vocab_size", "n_layers")},
        "model.block.attention.n_heads": attention.get("n_heads"),
        "model.block.feed_forward.hidden_size": model["block"]["feed_forward"].get("hidden_size"),
        "dataset.tokenizer.vocab_size": data["tokenizer"].get("vocab_size"),
    }
    for key, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST:
            yield f"{key}={json.dumps(size)[:80]}: must be a whole number from 1 to {LARGEST}"
    if isinstance(layers := model.get("n_layers"), int) and layers > MOST_LAYERS:
        yield f"model.n_layers={layers}: must be at most {MOST_LAYERS}"


def _data_faults(data: Mapping[str, Any], loader: Mapping[str, Any]) -> Iterator[str]:
    kind = str(data.get("type") or data.get("name") or data.get("_CLASS_", ""))
    other = any(word in kind.lower() for word in ("padded", "packed", "interleaved"))
    if other or (kind and "fsl" not in kind.lower()):
        yield f"dataset={kind} is not followed; allowed: fsl, instances of one length"
    yield from _other_values("dataset", data, DATASET)
    for key, whole in {
        "dataset.sequence_length": data.get("sequence_length"),
        "data_loader.global_batch_size": loader.get("global_batch_size"),
    }.items():
        if not isinstance(whole, int) or isinstance(whole, bool) or whole < 1:
            yield f"{key}={whole}: must be a whole number from 1"
            return
    length = data["sequence_length"]
    for key, whole in {
        "dataset.max_target_sequence_length": data.get("max_target_sequence_length"),
        "data_loader.global_batch_size": loader["global_batch_size"],
    }.items():
        if whole is not None and (not isinstance(whole, int) or whole < length or whole % length):
            yield f"{key}={whole}: must be a multiple of dataset.sequence_length={length}"
    dtype = data.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        yield f"dataset.dtype={dtype} is not followed; allowed: {', '.join(DTYPES)}"


def _other_values(key: str, settings: Mapping[str, Any], followed: Fields) -> Iterator[str]:
    for name, allowed in followed.items():
        value = settings.get(name)
        if value is not None and value not in allowed:
            meant = allowed[0] if allowed else "null"
            yield f"{key}.{name}={json.dumps(value)[:80]} is not followed; allowed: {json.dumps(meant)}"


def model_tree(config: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture, as fields of `OlmoCoreModel`."""
    model, attention = config["model"], attention_of(config)
    tokenizer = config["dataset"]["tokenizer"]
    native = {
        "model_type": "olmo2",
        "vocab_size": model["vocab_size"],
        "hidden_size": model["d_model"],
        "intermediate_size": model["block"]["feed_forward"]["hidden_size"],
        "num_hidden_layers": model["n_layers"],
        "num_attention_heads": attention["n_heads"],
        "num_key_value_heads": attention.get("n_kv_heads") or attention["n_heads"],
        "rms_norm_eps": model["block"]["layer_norm"].get("eps") or 1e-5,
        "max_position_embeddings": config["dataset"]["sequence_length"],
        "rope_theta": attention["rope"].get("theta", 500000),
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer["eos_token_id"],
        "pad_token_id": tokenizer["pad_token_id"],
    }
    return {**architecture(native), "windows": windows(config)}


def windows(config: Mapping[str, Any]) -> list[int] | None:
    """The window of each layer, as OLMo-core's `SlidingWindowAttentionConfig` gives it; None if no layer has one."""
    chosen, num_layers = attention_of(config).get("sliding_window"), config["model"]["n_layers"]
    if not chosen:
        return None
    first = chosen.get("force_full_attention_on_first_layer", True)
    last = chosen.get("force_full_attention_on_last_layer", True)
    pattern = chosen["pattern"]
    if not pattern or any(not isinstance(width, int) or (width < 1 and width != -1) for width in pattern):
        raise Unreadable(f"model.block.attention.sliding_window.pattern={pattern}: must be whole numbers from 1, or -1")

    def window(layer: int) -> int:
        if (first and layer == 0) or (last and layer == num_layers - 1):
            return -1
        return int(pattern[(layer - bool(first)) % len(pattern)])

    return [window(layer) for layer in range(num_layers)]


def rules(config: Mapping[str, Any], *, stuck: bool) -> OlmoCoreRules:
    """The update rule; `stuck`: Adam's step count is 0 although there are moments, so that it was never increased."""
    module, data = config["train_module"], config["dataset"]
    optimizer = module["optim"]
    skips = OPTIMIZERS[str(optimizer.get("type") or optimizer["_CLASS_"]).rpartition(".")[2]] == "skip"
    longest = data.get("max_target_sequence_length") or data["sequence_length"]
    return OlmoCoreRules(
        z_loss=module.get("z_loss_multiplier") or 0.0,
        skip_sigma=float(optimizer.get("sigma_factor", 6)) if skips else None,
        skip_window=optimizer.get("rolling_interval_length", 128),
        counts_steps=not (skips and (stuck or optimizer.get("step_increment_bugfix") is not True)),
        foreach=bool(optimizer.get("foreach", True)),
        chunk=longest // data["sequence_length"],
    )


def stated_settings(config: Mapping[str, Any], names: list[str]) -> dict[str, dict[str, Any]]:
    """Parameter -> the optimizer's settings of it, where the checkpoint has no optimizer."""
    chosen = config["train_module"]["optim"]
    base = {
        "lr": chosen.get("lr", 1e-3),
        "betas": tuple(chosen.get("betas", (0.9, 0.999))),
        "eps": chosen.get("eps", 1e-8),
        "weight_decay": chosen.get("weight_decay", 1e-2),
    }
    settings = {name: dict(base) for name in names}
    for override in chosen.get("group_overrides") or []:
        for name in names:
            if any(fnmatch.fnmatch(name, pattern) for pattern in override["params"]):
                settings[name] |= {key: value for key, value in override["opts"].items() if key in base}
    return settings


def training_tree(config: Mapping[str, Any], *, paths: list[str], seed: int) -> dict[str, Any]:
    """The training, as fields of ai2-olmo's `TrainConfig`; `seed` is that of the data order."""
    data = config["dataset"]
    return {
        "seed": seed,
        "model": model_tree(config),
        "data": data_tree(config, paths, seed=seed),
        "tokenizer": {"identifier": str(data["tokenizer"].get("identifier") or "none")},
        "global_train_batch_size": config["data_loader"]["global_batch_size"] // data["sequence_length"],
        "max_grad_norm": config["train_module"].get("max_grad_norm"),
        "precision": "fp32",
    }


def data_tree(config: Mapping[str, Any], paths: list[str], *, seed: int) -> dict[str, Any]:
    """The data, as fields of ai2-olmo's `DataConfig`."""
    data = config["dataset"]
    chosen = data.get("instance_filter_config")
    kept = {name: value for name, value in (chosen or {}).items() if not name.startswith("_") and name != "type"}
    return {
        "paths": paths,
        "memmap_dtype": data.get("dtype") or token_dtype(data["tokenizer"]["vocab_size"]),
        "seed": seed,
        "instance_filter": kept if chosen else None,
    }


def token_dtype(vocab_size: int) -> str:
    """The smallest unsigned type that holds every token of a tokenizer; its own size counts, not the padded one."""
    return next(name for name in DTYPES if vocab_size <= 1 << int(name.removeprefix("uint")))
