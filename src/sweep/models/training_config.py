"""The configuration of a training: ai2-olmo's `TrainConfig`, and beside it the config.json of a model of transformers.

For such a model the fields of `TrainConfig.model` hold the sizes that every model has, so that whoever asks for the
vocabulary or the longest input needs not to know which kind of model it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional  # noqa: UP035 (OmegaConf reads these annotations)

from olmo.config import TrainConfig

from sweep.domain.errors import Refusal


@dataclass
class TransformersConfig(TrainConfig):
    """The training of a model of transformers."""

    transformers: Optional[Dict[str, Any]] = None  # noqa: UP006, UP045 (as above)
    """The model's config.json."""


def training_config(**tree: Any) -> TrainConfig:
    """The configuration of a plain tree, with `transformers` in it for a model of transformers."""
    if "transformers" not in tree:
        return TrainConfig.new(**tree)
    if "${" in json.dumps(tree["transformers"]):
        raise Refusal("config.json has ${ in one of its values, which a configuration would replace: take it out")
    return TransformersConfig.new(**tree)


def kind_of_training(file: Path) -> type[TrainConfig]:
    """The class of the configuration in a checkpoint's config.yaml."""
    return TransformersConfig if re.search(r"^transformers:", file.read_text(), re.MULTILINE) else TrainConfig


def config_json_of(config: TrainConfig) -> Mapping[str, Any] | None:
    """The config.json of a model of transformers; None for ai2-olmo's."""
    return config.transformers if isinstance(config, TransformersConfig) else None
