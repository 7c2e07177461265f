"""ai2-olmo's `OLMo`: OLMo 1, OLMo 2 and the models of DataDecide."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from olmo.config import ActivationCheckpointingStrategy, ActivationType, ModelConfig, TrainConfig
from olmo.model import OLMo
from olmo.optim import get_param_groups
from torch import Tensor, nn

from sweep.models.windows import build_model


@dataclass(frozen=True)
class OlmoArchitecture:
    """One side of the seam; see `Architecture` for what its methods do."""

    sizes: ModelConfig

    def empty(self, device: torch.device) -> OLMo:
        return build_model(on(device, self.sizes))

    def drawn(self) -> OLMo:
        return OLMo(on(torch.device("cpu"), self.sizes))

    def compatible(self, model: OLMo, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """This is the one use of ai2-olmo's private `_make_state_dict_compatible`, which its own `from_checkpoint`
        calls too."""
        return model._make_state_dict_compatible(weights)[0]

    def weights(self, model: OLMo) -> dict[str, Tensor]:
        return model.state_dict()

    def load(self, model: OLMo, weights: dict[str, Tensor], *, assign: bool = False) -> None:
        model.load_state_dict(weights, assign=assign)

    def blocks(self, model: OLMo) -> list[nn.Module]:
        parts = model.transformer
        return list(parts.blocks if "blocks" in parts else parts.block_groups)

    def checkpoint_activations(self, model: OLMo) -> None:
        model.set_activation_checkpointing(ActivationCheckpointingStrategy.whole_layer)

    def retie(self, model: OLMo) -> None:
        """A tied head has no parameter of its own."""

    def parameter_groups(self, model: OLMo, config: TrainConfig) -> list[dict[str, Any]]:
        return get_param_groups(config, model)

    def matrix_parameters(self) -> int:
        sizes = self.sizes
        hidden = sizes.mlp_hidden_size if sizes.mlp_hidden_size is not None else sizes.mlp_ratio * sizes.d_model
        heads = sizes.n_heads + 2 * sizes.effective_n_kv_heads
        attention = sizes.d_model * (sizes.d_model // sizes.n_heads * heads + sizes.d_model)
        feed_forward = sizes.d_model * hidden * (3 if sizes.activation_type == ActivationType.swiglu else 4) // 2
        return sizes.n_layers * (attention + feed_forward) + sizes.d_model * (sizes.embedding_size or sizes.vocab_size)

    def identity(self) -> Mapping[str, Any]:
        return {}

    def check_annealable(self) -> None:
        """What a training's configuration asks for besides is looked at where it is read."""


def on(device: torch.device, sizes: ModelConfig) -> ModelConfig:
    """The architecture, set up for a device; flash attention changes no weights."""
    return dataclasses.replace(sizes, init_device=device.type, flash_attention=False)
