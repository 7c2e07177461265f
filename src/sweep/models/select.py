"""Which side of the seam a model is on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from olmo.config import TrainConfig
from olmo.model import OLMo
from torch import nn

from sweep.models.architecture import Architecture
from sweep.models.olmo import OlmoArchitecture
from sweep.models.training_config import config_json_of

if TYPE_CHECKING:
    from sweep.models.transformers import TransformersArchitecture


def architecture_of(made: TrainConfig | nn.Module) -> Architecture:
    """The architecture of the model of a training, or of a model itself."""
    if isinstance(made, OLMo):
        return OlmoArchitecture(made.config)
    if isinstance(made, nn.Module):
        model: Any = made
        return of_transformers(model.config.to_dict())
    config_json = config_json_of(made)
    return OlmoArchitecture(made.model) if config_json is None else of_transformers(config_json)


def build(config_json: Mapping[str, Any], *, device: torch.device | str = "cpu") -> Any:
    """A causal language model of transformers in fp32, its parameters not set; Refusal if transformers has none such.

    It takes a state dict of transformers' names: `architecture_of(model).load(model, weights)`.
    """
    return of_transformers(config_json).empty(torch.device(device))


def transformers_sizes(config_json: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a model of transformers, as fields of ai2-olmo's `ModelConfig`; Refusal if transformers has none
    such, or one is missing. `eos_token_id` and `pad_token_id` may be None."""
    from sweep.models.transformers import sizes  # transformers takes seconds to load

    return sizes(config_json)


def of_transformers(config_json: Mapping[str, Any]) -> TransformersArchitecture:
    """The architecture of a config.json."""
    from sweep.models.transformers import TransformersArchitecture  # transformers takes seconds to load

    return TransformersArchitecture(config_json)
