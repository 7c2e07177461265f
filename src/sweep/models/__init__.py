"""The seam between a model and all that trains, scores, shards, examines and exports it.

A model is a `torch.nn.Module` that turns token ids (B, T) into an object with `logits` (B, T, V). What else is asked of
it, its `Architecture` answers: ai2-olmo's `OLMo` is one side of the seam, transformers' causal language models the
other. Only the second side imports transformers, and only when a model is of that side.
"""

from sweep.models.architecture import Architecture
from sweep.models.olmo import OlmoArchitecture
from sweep.models.select import architecture_of, build, of_transformers, transformers_sizes
from sweep.models.training_config import (
    TransformersConfig,
    config_json_of,
    kind_of_training,
    training_config,
)

__all__ = [
    "Architecture",
    "OlmoArchitecture",
    "TransformersConfig",
    "architecture_of",
    "build",
    "config_json_of",
    "kind_of_training",
    "of_transformers",
    "training_config",
    "transformers_sizes",
]
