"""A training state over several ranks: FSDP2 shards the model's blocks and its root, and `whole` gathers them again.

On disk there is one format, the whole state, so any number of ranks goes on from what another number saved. The first
rank holds the whole state in host memory when it loads or saves, 12 bytes per parameter; the others hold their shards.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sweep.checkpoints.olmo import TrainingState
from sweep.checkpoints.optimizer import MOMENTS, adamw, moments_dtype, named_state, restore_moments, restore_settings
from sweep.models import architecture_of


@torch.no_grad()
def shard(state: TrainingState, *, num_ranks: int, device: torch.device) -> None:
    """Leave this rank its shard, on `device`, of the state that the first rank holds; the optimizer is made anew.

    The state of the other ranks may be without tensors (`load_state` on the device "meta").
    """
    mesh = init_device_mesh(device.type, (num_ranks,))
    whole_optimizer = state.optimizer
    leads = mesh.get_rank() == 0
    architecture = architecture_of(state.config)
    weights = architecture.weights(state.model) if leads else {}
    buffers = dict(state.model.named_buffers())
    moments = named_state(whole_optimizer)["state"] if leads else {}
    state.model.to("meta")  # the tensors live on in `weights`
    architecture.retie(state.model)
    for block in architecture.blocks(state.model):
        fully_shard(block, mesh=mesh)
    fully_shard(state.model, mesh=mesh)
    state.model.to_empty(device=device)
    for name, buffer in state.model.named_buffers():
        buffer.copy_(buffers[name] if leads else buffer)
        torch.distributed.broadcast(buffer, src=0)
    state.optimizer = adamw(state.model, state.config)
    dtype = moments_dtype(state.config)
    for name, parameter in state.model.named_parameters():
        parameter.to_local().copy_(_scattered(weights.get(name), parameter, parameter.dtype).to_local())
        of_first = moments.get(name, {})
        step = _broadcast(of_first.get("step"), mesh)
        averages = {each: _scattered(of_first.get(each), parameter, dtype) for each in MOMENTS[1:]}
        state.optimizer.state[parameter] = {"step": step, **averages}
    restore_settings(state.optimizer.param_groups, whole_optimizer.param_groups)


def _scattered(tensor: torch.Tensor | None, like: DTensor, dtype: torch.dtype) -> DTensor:
    """The first rank's tensor in shards as `like`; the other ranks have none. Only numbers travel, and no pickle."""
    whole = torch.empty(like.shape, dtype=dtype) if tensor is None else tensor.detach().to(dtype)
    return distribute_tensor(whole.to(like.device), like.device_mesh, like.placements, src_data_rank=0)


def _broadcast(number: torch.Tensor | None, mesh: DeviceMesh) -> torch.Tensor:
    """The first rank's number, on every rank."""
    value = torch.zeros((), device=mesh.device_type) if number is None else number.detach().clone().float()
    value = value.to(mesh.device_type)
    torch.distributed.broadcast(value, src=0)
    return value


def whole(state: TrainingState, *, keep: bool) -> TrainingState | None:
    """The state gathered from the shards of all ranks, in the first rank's memory; None on ranks that don't `keep` it.

    Every rank must call this; `keep` is for the first one.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights: dict[str, Any] = get_model_state_dict(state.model, options=options)
    saved = get_optimizer_state_dict(state.model, state.optimizer, options=options)
    if not keep:
        return None
    architecture = architecture_of(state.config)
    model = architecture.empty(torch.device("meta"))
    architecture.load(model, architecture.compatible(model, weights), assign=True)
    optimizer = adamw(model, state.config)
    restore_settings(optimizer.param_groups, state.optimizer.param_groups)
    restore_moments(optimizer, saved)
    return TrainingState(model, optimizer, state.position, state.config)
