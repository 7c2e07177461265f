"""Causal language models of transformers, by the `model_type` of their config.json.

No code comes from a checkpoint: `auto_map` and kernels that config.json may name are left out, and a `model_type` that
transformers itself doesn't have is refused.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from olmo.config import TrainConfig
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from sweep.domain.errors import Refusal, shown, unknown

LEFT_OUT = ("auto_map", "attn_implementation", "_attn_implementation", "dtype", "torch_dtype", "quantization_config")
"""Keys of config.json that name code, a kernel or a data type: the model is transformers' own, in fp32."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Keys of config.json that only a mixture of experts has."""
LENGTHS = ("max_position_embeddings", "seq_length", "max_seq_len", "n_positions")
"""What config.json calls the longest input, by family."""
NOWHERE = torch.device("meta")


@dataclass(frozen=True)
class TransformersArchitecture:
    """The other side of the seam; see `Architecture` for what its methods do."""

    config_json: Mapping[str, Any]

    def empty(self, device: torch.device) -> PreTrainedModel:
        """Refusal if transformers makes no causal language model of this config.json."""
        with NOWHERE if device.type == "meta" else torch.device("cpu"), no_init_weights():
            model = self.drawn()
            model.tie_weights()
        return model if device.type == "meta" else model.to(device)

    def drawn(self) -> PreTrainedModel:
        config = model_config(self.config_json)
        config.use_cache = False
        try:
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=torch.float32)
        except Exception as error:  # transformers', torch's and Python's own: whatever the sizes provoke
            raise Refusal(f"config.json: transformers makes no model of it: {_line(error)}") from error

    def compatible(self, model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without buffers of older releases, and with each tied tensor once; ValueError if the second one differs."""
        names = self.weights(model)
        second = {name for name in weights if name not in names and name in model.state_dict()}
        if different := [name for name in second if not _same_as_another(weights[name], weights, names)]:
            raise ValueError(f"config.json has tie_word_embeddings=true, but {different[0]} is not the embedding")
        old = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")
        return {n: t for n, t in weights.items() if n not in second and (n in names or not n.endswith(old))}

    def imported(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a folder of transformers, of any release, under the names that the model has today.

        What the model has not stays under its own name, and what has another shape keeps it.
        """
        model = self.empty(NOWHERE)
        weights = self.compatible(model, weights)
        logging.disable_progress_bar()
        dtypes = {tensor.dtype for tensor in weights.values()}
        made, report = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=weights,
            dtype=dtypes.pop() if len(dtypes) == 1 else torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        other = {*report["unexpected_keys"], *(name for name, *_ in report["mismatched_keys"])}
        same = {n: t for n, t in self.weights(made).items() if n not in other and n not in report["missing_keys"]}
        return same | {name: weights[name] for name in other if name in weights}

    def export(self, model: PreTrainedModel, into: Path) -> None:
        """Write config.json and the weights as transformers itself does, under the names that its folders have."""
        model.config.use_cache = self.config_json.get("use_cache", True)
        logging.disable_progress_bar()
        model.save_pretrained(into)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        kept = {name for name, _ in model.named_parameters()}
        tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - kept
        return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}

    def load(self, model: PreTrainedModel, weights: dict[str, Tensor], *, assign: bool = False) -> None:
        if missing := sorted(self.weights(model).keys() - weights.keys()):
            raise ValueError(f"the weights have no {missing[0]}")
        if more := sorted(weights.keys() - model.state_dict().keys()):
            raise ValueError(f"the weights have {more[0]}, which {type(model).__name__} has not")
        model.load_state_dict(weights, strict=False, assign=assign)  # a tied tensor is there once
        if assign:
            self.retie(model)

    def blocks(self, model: PreTrainedModel) -> list[nn.Module]:
        """The longest list of modules in the body: every decoder of transformers has its layers in one."""
        lists = [list(part) for part in model.base_model.modules() if isinstance(part, nn.ModuleList)]
        return max(lists, key=len)

    def checkpoint_activations(self, model: PreTrainedModel) -> None:
        with warnings.catch_warnings():  # transformers 5 has a second name for it, and earlier releases of it don't
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})

    def retie(self, model: PreTrainedModel) -> None:
        model.tie_weights()

    def parameter_groups(self, model: PreTrainedModel, config: TrainConfig) -> list[dict[str, Any]]:
        """As ai2-olmo groups them: matrices decay, biases and norms don't, nor does the embedding, unless asked for."""
        embedding, asked = model.get_input_embeddings().weight, config.optimizer
        decay: dict[bool, list[str]] = {True: [], False: []}
        parameters = dict(model.named_parameters())
        for name, parameter in sorted(parameters.items()):
            if parameter is embedding:
                decay[asked.decay_embeddings].append(name)
            else:
                decay[parameter.ndim >= 2 or asked.decay_norm_and_bias].append(name)
        groups: tuple[tuple[list[str], dict[str, float]], ...] = (
            (decay[True], {}),
            (decay[False], {"weight_decay": 0.0}),
        )
        return [
            {"params": [parameters[n] for n in names], "param_names": names, **own} for names, own in groups if names
        ]

    def matrix_parameters(self) -> int:
        model = self.empty(NOWHERE)
        head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        inside = sum(p.numel() for p in model.parameters() if p.ndim >= 2 and p is not head and p is not embedding)
        return inside + head.numel()

    def identity(self) -> Mapping[str, Any]:
        """Another release of transformers may compute other last bits."""
        return {"config.json": dict(self.config_json), "transformers": importlib.metadata.version("transformers")}

    def check_annealable(self) -> None:
        kind = self.config_json.get("model_type")
        config = model_config(self.config_json)
        experts = [name for name in EXPERTS if (getattr(config, name, 0) or 0) > 1]
        if experts := sorted(experts, key=lambda name: name not in self.config_json):
            raise Refusal(
                f"config.json: model_type={kind} is a mixture of {getattr(config, experts[0])} experts "
                f"({experts[0]}), whose routers were trained with losses of their own: it can be scored "
                "(anneal=none), and not annealed"
            )
        if dropouts := sorted(_dropouts(self.empty(NOWHERE))):
            name, rate = dropouts[0]
            raise Refusal(
                f"config.json: model_type={kind} has {name}={rate}, and a training with dropout is not followed; "
                "allowed: 0, if the training had none"
            )


def model_config(config_json: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration in transformers' own class; Refusal if it is none of a causal language model."""
    kind = config_json.get("model_type", "none")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind not in CONFIG_MAPPING:
        names = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING]
        near = unknown(str(kind), names).rpartition(" (did")[1:]
        raise Refusal(
            f"config.json: model_type={shown(kind)} is no causal language model that transformers has{''.join(near)}"
        )
    own = {name: value for name, value in config_json.items() if name not in LEFT_OUT}
    try:
        config = CONFIG_MAPPING[kind].from_dict(own)
    except Exception as error:  # transformers', and Python's own: whatever the values provoke
        raise Refusal(f"config.json is none of model_type={kind}: {_line(error)}") from error
    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise Refusal(f"config.json: model_type={kind} is more than a decoder of text: take its text model alone")
    return config


def sizes(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that every model has, as fields of ai2-olmo's `ModelConfig`; Refusal names the one that is missing."""
    config = model_config(config_json)
    names = {
        "d_model": "hidden_size",
        "n_heads": "num_attention_heads",
        "n_layers": "num_hidden_layers",
        "max_sequence_length": next((name for name in LENGTHS if hasattr(config, name)), LENGTHS[0]),
        "vocab_size": "vocab_size",
    }
    found = {name: getattr(config, theirs, None) for name, theirs in names.items()}
    if absent := [name for name, value in found.items() if not isinstance(value, int)]:
        raise Refusal(f"config.json: {names[absent[0]]}={shown(found[absent[0]])}: must be a whole number")
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    tied = bool(getattr(config, "tie_word_embeddings", False))
    padding = end if config.pad_token_id is None else config.pad_token_id
    return {
        **found,
        "embedding_size": found["vocab_size"],
        "eos_token_id": end,
        "pad_token_id": padding,
        "weight_tying": tied,
        "rope": True,
        "flash_attention": False,
        **dict.fromkeys(("attention_dropout", "residual_dropout", "embedding_dropout"), 0.0),
    }


def _dropouts(model: nn.Module) -> Iterator[tuple[str, float]]:
    """(name, rate) of each dropout above 0 that a training of the model would have."""
    for name, part in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(part, nn.Dropout) and part.p:
            yield last, part.p
        for key, value in vars(part).items():
            if "drop" in key and isinstance(value, float) and value:
                yield key, value


def _same_as_another(tensor: Tensor, weights: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> bool:
    """Whether a tied tensor that a file holds a second time is one of those that the model has."""
    alike = (weights[name] for name in names if name in weights and weights[name].shape == tensor.shape)
    return tensor.device.type == "meta" or any(torch.equal(tensor, other) for other in alike)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
