"""A training state over several ranks: FSDP2 shards the model's blocks and its root, and `whole` gathers them again.

On disk there is one format, the whole state, so any number of ranks goes on from what another number saved. The first
rank holds the whole state in host memory when it loads or saves, 12 bytes per parameter; the others hold their shards.
"""

from __future__ import annotations

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from sweep.checkpoints.olmo import TrainingState, empty_model
from sweep.checkpoints.optimizer import adamw, named_state, restore_moments, restore_settings


def shard(state: TrainingState, *, num_ranks: int, device: torch.device) -> None:
    """Leave this rank its shard, on `device`, of the state that the first rank holds; the optimizer is made anew.

    The state of the other ranks may be without tensors (`load_state` on the device "meta").
    """
    mesh = init_device_mesh(device.type, (num_ranks,))
    whole_optimizer = state.optimizer
    weights, moments = ({}, {}) if mesh.get_rank() else (state.model.state_dict(), named_state(whole_optimizer))
    state.model.to("meta")  # the tensors live on in `weights`
    blocks = state.model.transformer
    for block in blocks.blocks if "blocks" in blocks else blocks.block_groups:
        fully_shard(block, mesh=mesh)
    fully_shard(state.model, mesh=mesh)
    state.model.to_empty(device=device)
    state.optimizer = adamw(state.model, state.config)
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(state.model, weights, options=options)
    set_optimizer_state_dict(state.model, state.optimizer, moments, options=options)
    restore_settings(state.optimizer.param_groups, whole_optimizer.param_groups)  # torch's are lists where tuples were


def whole(state: TrainingState, *, keep: bool) -> TrainingState | None:
    """The state gathered from the shards of all ranks, in the first rank's memory; None on ranks that don't `keep` it.

    Every rank must call this; `keep` is for the first one.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(state.model, options=options)
    saved = get_optimizer_state_dict(state.model, state.optimizer, options=options)
    if not keep:
        return None
    model = empty_model(state.config, device=torch.device("meta"))
    model.load_state_dict(weights, assign=True)
    optimizer = adamw(model, state.config)
    restore_settings(optimizer.param_groups, state.optimizer.param_groups)
    restore_moments(optimizer, saved)
    return TrainingState(model, optimizer, state.position, state.config)
