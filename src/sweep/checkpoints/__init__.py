"""Reads and writes checkpoints: ai2-olmo's unsharded format, and Hugging Face folders converted to and from it."""

from sweep.checkpoints.average import average_folders
from sweep.checkpoints.examine import check_sizes, examine
from sweep.checkpoints.folders import export_folder, import_folder, model_tree
from sweep.checkpoints.olmo import (
    TrainingState,
    config_text,
    fresh_position,
    fresh_state,
    identity,
    load_model,
    load_state,
    named_files,
    read_config,
    read_position,
    save_state,
    weights_key,
)
from sweep.checkpoints.olmo_core_import import import_step_folder, is_step_folder, read_files
from sweep.checkpoints.optimizer import check_groups, decayed, has_optimizer, hyperparameters
from sweep.checkpoints.settings import check_followed, data_chunk, data_paths, olmo_core_rules, z_loss
from sweep.checkpoints.tokenizers import shipped_tokenizer

__all__ = [
    "TrainingState",
    "average_folders",
    "check_followed",
    "check_groups",
    "check_sizes",
    "config_text",
    "data_chunk",
    "data_paths",
    "decayed",
    "examine",
    "export_folder",
    "fresh_position",
    "fresh_state",
    "has_optimizer",
    "hyperparameters",
    "identity",
    "import_folder",
    "import_step_folder",
    "is_step_folder",
    "load_model",
    "load_state",
    "model_tree",
    "named_files",
    "olmo_core_rules",
    "read_config",
    "read_files",
    "read_position",
    "save_state",
    "shipped_tokenizer",
    "weights_key",
    "z_loss",
]
