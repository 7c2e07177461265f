"""AdamW as ai2-olmo sets it up, and as a checkpoint saved it: hyperparameters of its param groups, and moments."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from olmo.config import TrainConfig
from torch import nn

from sweep.checkpoints.olmo_core_config import OlmoCoreTraining
from sweep.checkpoints.skip_step_adamw import SkipStepAdamW
from sweep.checkpoints.tensors import has_file, read_entry
from sweep.models import architecture_of

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
HYPERPARAMETERS = ("lr", "betas", "eps", "weight_decay")
"""The settings of the saved param groups that an anneal keeps."""


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """A new optimizer of the model's parameters with the configuration's settings."""
    settings = config.optimizer
    chosen: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": settings.betas,
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
        "fused": True,
    }
    groups = param_groups(config, model)
    if isinstance(config, OlmoCoreTraining):
        return SkipStepAdamW(groups, config.olmo_core, **chosen)
    return torch.optim.AdamW(groups, **chosen)


def moments_dtype(config: TrainConfig) -> torch.dtype:
    """The data type of Adam's moments."""
    dtype: torch.dtype = getattr(torch, config.olmo_core.moments if isinstance(config, OlmoCoreTraining) else "float32")
    return dtype


def param_groups(config: TrainConfig, model: nn.Module) -> list[dict[str, Any]]:
    """The model's parameters in groups with settings of their own: as ai2-olmo makes them, or as the training had."""
    if not isinstance(config, OlmoCoreTraining):
        return architecture_of(config).parameter_groups(model, config)
    parameters = dict(model.named_parameters())
    named = [set(group.params or ()) for group in config.olmo_core.groups]
    others = set(parameters) - set().union(*named)
    groups = []
    for group, names_of_group in zip(config.olmo_core.groups, named, strict=True):
        of_group = sorted(others if group.params is None else names_of_group)
        if absent := sorted(set(of_group) - set(parameters)):
            raise ValueError(f"config.yaml: olmo_core.groups names {absent[0]}, which the model has not")
        groups.append(
            {
                "params": [parameters[name] for name in of_group],
                "param_names": of_group,
                "weight_decay": group.weight_decay,
                "lr_ratio": group.lr_ratio,
            }
        )
    return groups


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint has optimizer state."""
    return has_file(folder, "optim")


def saved_groups(folder: Path) -> list[dict[str, Any]]:
    """The param groups of a checkpoint's optimizer, its moments unread; ValueError if one is not of an Adam."""
    groups = read_entry(folder, "optim", "param_groups")
    if not isinstance(groups, list) or not groups:
        raise ValueError(f"the optimizer in {folder} has no param_groups")
    for number, group in enumerate(groups):
        if fault := _group_fault(group):
            raise ValueError(f"the optimizer in {folder}: param_groups.{number} {fault}")
    return groups


def _group_fault(group: Any) -> str:
    """What is wrong with a saved param group; empty if nothing is."""
    if not isinstance(group, Mapping):
        return "is no mapping"
    if missing := [key for key in ("params", *HYPERPARAMETERS) if key not in group]:
        return f"has no {missing[0]}"
    if not isinstance(group["params"], list) or len(names(group)) != len(group["params"]):
        return "doesn't have a name for each of its params"
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        return f"has betas={betas}, and must have two"
    for name, value in {**{key: group[key] for key in ("lr", "eps", "weight_decay")}, "betas": betas}.items():
        for number in value if name == "betas" else [value]:
            if not isinstance(number, int | float | torch.Tensor) or not 0 <= float(number) < math.inf:
                return f"has {name}={value}, and must have finite numbers from 0"
    return ""


def hyperparameters(folder: Path, config: TrainConfig) -> list[dict[str, Any]]:
    """Betas and weight decay of each param group, as saved, or of config.yaml if nothing was saved."""
    groups = saved_groups(folder) if has_optimizer(folder) else [dataclasses.asdict(config.optimizer)]
    return [{"betas": tuple(group["betas"]), "weight_decay": group["weight_decay"]} for group in groups]


def decayed(folder: Path) -> dict[str, bool]:
    """The `optimizer.decay_*` settings with which ai2-olmo's code makes the saved param groups."""
    decay = {name: group["weight_decay"] > 0 for group in saved_groups(folder) for name in names(group)}
    return {
        "decay_norm_and_bias": any(
            d for name, d in decay.items() if name.endswith(("norm.weight", "ln_f.weight", "bias"))
        ),
        "decay_embeddings": decay.get("transformer.wte.weight", False),
    }


def check_groups(folder: Path, config: TrainConfig) -> None:
    """Raises ValueError if `restore_settings` would; no weights or moments are read."""
    groups = param_groups(config, architecture_of(config).empty(torch.device("meta")))
    groups = [{"weight_decay": config.optimizer.weight_decay, **group} for group in groups]
    restore_settings(groups, saved_groups(folder))


def restore_settings(groups: Sequence[dict[str, Any]], saved: Sequence[Mapping[str, Any]]) -> None:
    """Copy the saved groups' hyperparameters into `groups`; parameters are matched by name.

    An optimizer saved with one group, before there were two, decays no norm, bias or embedding, as in ai2-olmo's
    `fix_optim_state_dict`.
    """
    settings = {name: {key: group[key] for key in HYPERPARAMETERS} for group in saved for name in names(group)}
    if missing := {name for group in groups for name in group["param_names"]} - set(settings):
        raise ValueError(f"the checkpoint's optimizer has no state for {', '.join(sorted(missing)[:3])}")
    for group in groups:
        kept = settings[group["param_names"][0]]
        if len(saved) == 1 < len(groups) and group["weight_decay"] == 0:
            kept = {**kept, "weight_decay": 0.0}
        elif other := [name for name in group["param_names"] if settings[name] != kept]:
            raise ValueError(
                f"the checkpoint's optimizer treats {group['param_names'][0]} as {kept} and {other[0]} as "
                f"{settings[other[0]]}, but its config.yaml puts both into one group (optimizer.decay_*)"
            )
        group.update(kept)


def restore_moments(optimizer: torch.optim.AdamW, saved: Mapping[str, Any]) -> None:
    """Copy saved moments into the optimizer; `restore_settings` has checked that every parameter has some."""
    moments = {
        name: saved["state"][ident]
        for group in saved["param_groups"]
        for name, ident in zip(names(group), group["params"], strict=True)
    }
    for group in optimizer.param_groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            state = {moment: moments[name][moment].to(parameter.device) for moment in MOMENTS}
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32)
            optimizer.state[parameter] = state


def named_state(optimizer: torch.optim.AdamW) -> dict[str, Any]:
    """The optimizer's state dict with parameters by name; moments are zero before the first step."""
    groups = [{**group, "params": list(group["param_names"])} for group in optimizer.param_groups]
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    return {"state": {name: _moments(optimizer, p) for name, p in parameters.items()}, "param_groups": groups}


def _moments(optimizer: torch.optim.AdamW, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
    if parameter not in optimizer.state:
        return {"step": torch.zeros(()), **{name: torch.zeros_like(parameter) for name in MOMENTS[1:]}}
    return {name: optimizer.state[parameter][name] for name in MOMENTS}


def names(group: Mapping[str, Any]) -> list[str]:
    """A saved group's parameters by name: DDP trainings number them in this order, FSDP trainings name them."""
    return [str(name).replace("_fsdp_wrapped_module.", "") for name in group.get("param_names", group["params"])]
