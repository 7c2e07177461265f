"""A training's state over several ranks: FSDP2 shards its blocks and its root, `whole` puts them together again.

On disk there is one format, the whole state: what one number of ranks saved, any other number goes on from. Reading and
writing take host memory for the whole state: 12 bytes a parameter.
"""

from __future__ import annotations

import torch
from olmo.model import OLMo
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sweep.checkpoints.olmo import TrainingState, _here
from sweep.checkpoints.optimizer import HYPERPARAMETERS, adamw


def shard(state: TrainingState, *, num_ranks: int, device: torch.device) -> None:
    """Leave this rank its share of a state that every rank has whole, on `device`; the optimizer is made anew."""
    old = state.optimizer
    moments = {name: old.state[p] for name, p in _named(old) if p in old.state}
    mesh = init_device_mesh(device.type, (num_ranks,))
    blocks = state.model.transformer
    for block in blocks.blocks if "blocks" in blocks else blocks.block_groups:
        fully_shard(block, mesh=mesh)
    fully_shard(state.model, mesh=mesh)
    state.optimizer = adamw(state.model, state.config)
    _same_settings(state.optimizer, old)
    for name, parameter in _named(state.optimizer):
        if name in moments:
            state.optimizer.state[parameter] = {key: _share(value, parameter) for key, value in moments[name].items()}


def whole(state: TrainingState, *, keep: bool) -> TrainingState | None:
    """The state put together from all ranks' shares, in host memory; None on the ranks that don't `keep` it."""
    weights = {name: _whole(parameter, keep) for name, parameter in state.model.named_parameters()}
    moments = {
        name: {key: _whole(value, keep) for key, value in state.optimizer.state[parameter].items()}
        for name, parameter in _named(state.optimizer)
    }
    if not keep:
        return None
    config = _here(state.config)
    config.model.init_device = "meta"
    model = OLMo(config.model, init_params=False)
    model.load_state_dict(weights, assign=True)
    optimizer = adamw(model, state.config)
    _same_settings(optimizer, state.optimizer)
    for name, parameter in _named(optimizer):
        optimizer.state[parameter] = moments[name]
    return TrainingState(model, optimizer, state.position, state.config)


def _share(moment: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This rank's rows of a moment, without sending any; the number of steps stays whole."""
    if moment.dim() == 0:
        return moment.to(parameter.device)
    assert isinstance(parameter, DTensor)
    return distribute_tensor(moment, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _whole(tensor: torch.Tensor, keep: bool) -> torch.Tensor:
    """All of a sharded tensor; every rank takes part, those that don't keep it drop it at once."""
    tensor = tensor.detach()
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.cpu() if keep else torch.empty(0)


def _named(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
    return [pair for g in optimizer.param_groups for pair in zip(g["param_names"], g["params"], strict=True)]


def _same_settings(optimizer: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    for group, settings in zip(optimizer.param_groups, other.param_groups, strict=True):
        group.update({key: settings[key] for key in HYPERPARAMETERS})
