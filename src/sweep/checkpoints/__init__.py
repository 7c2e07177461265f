"""Checkpoints in, checkpoints out: ai2-olmo's unsharded format."""

from sweep.checkpoints.olmo import (
    TrainingState,
    data_paths,
    fresh_state,
    identity,
    load_state,
    matrix_parameters,
    read_config,
    read_position,
    save_state,
)

__all__ = [
    "TrainingState",
    "data_paths",
    "fresh_state",
    "identity",
    "load_state",
    "matrix_parameters",
    "read_config",
    "read_position",
    "save_state",
]
