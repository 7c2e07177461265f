"""Writes a step folder of OLMo-core as ai2-olmo's unsharded folder: the same numbers under ai2-olmo's names.

ai2-olmo holds query, key and value in one matrix, and the two halves of a feed-forward layer's input in another. AdamW
works element by element, so that nothing changes where their settings are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sweep.checkpoints import olmo_core
from sweep.checkpoints.examine import check_shapes, check_sizes
from sweep.checkpoints.olmo import write_position
from sweep.checkpoints.olmo_core_config import (
    OlmoCoreTraining,
    OptimizerGroup,
    read_config,
    rules,
    stated_settings,
    training_tree,
)
from sweep.checkpoints.optimizer import HYPERPARAMETERS, MOMENTS, param_groups
from sweep.checkpoints.tensors import Unreadable, write_tensors
from sweep.models import architecture_of

TOP = {
    "transformer.wte.weight": ("embeddings.weight",),
    "transformer.ln_f.weight": ("lm_head.norm.weight",),
    "transformer.ff_out.weight": ("lm_head.w_out.weight",),
}
"""ai2-olmo's name -> OLMo-core's, of which several are joined in this order."""
BLOCK = {
    "att_proj.weight": ("attention.w_q.weight", "attention.w_k.weight", "attention.w_v.weight"),
    "attn_out.weight": ("attention.w_out.weight",),
    "q_norm.weight": ("attention.q_norm.weight",),
    "k_norm.weight": ("attention.k_norm.weight",),
    "attn_norm.weight": ("attention_norm.weight",),
    "ff_proj.weight": ("feed_forward.w3.weight", "feed_forward.w1.weight"),
    "ff_out.weight": ("feed_forward.w2.weight",),
    "ff_norm.weight": ("feed_forward_norm.weight",),
}
"""The same within a block."""
FILES = ("config.json", "data_paths.txt", "train/rank0.pt", "model_and_optim/.metadata")
"""What is read besides the shards."""


def is_step_folder(folder: Path) -> bool:
    """Whether this is a step folder of OLMo-core."""
    return (folder / "model_and_optim" / ".metadata").is_file()


def read_files(folder: Path) -> list[Path]:
    """The files that decide what is imported."""
    named = [folder / name for name in FILES if (folder / name).is_file()]
    return [*named, *sorted((folder / "model_and_optim").glob("*.distcp"))]


def import_step_folder(folder: Path, into: Path) -> None:
    """Write `into` as the unsharded folder of a step folder; Unreadable, naming file and fault, if it isn't sound."""
    config, train = read_config(folder), olmo_core.read_train_state(folder)
    parts = _parts(config["model"]["n_layers"])
    weights = olmo_core.read_weights(folder)
    _check_names(folder, weights, parts)
    model = _joined(folder, weights, parts)
    settings = olmo_core.read_groups(folder)
    has_optimizer = bool(settings)
    settings = settings or stated_settings(config, list(weights))
    moments = _moments(folder, parts) if has_optimizer else {}
    training = _training(folder, config, train, _joined_settings(folder, settings, parts), moments)
    check_sizes(folder, training, named="config.json")
    check_shapes(folder, {name: tensor.shape for name, tensor in model.items()}, _shapes(training))
    into.mkdir(parents=True, exist_ok=True)
    training.save(into / "config.yaml")
    write_tensors(model, into / "model.safetensors")
    if has_optimizer:
        groups = _saved_groups(training, _joined_settings(folder, settings, parts))
        write_tensors({"state": moments, "param_groups": groups}, into / "optim.safetensors")
    _write_position(into, config, train)


def _parts(num_layers: int) -> dict[str, tuple[str, ...]]:
    """ai2-olmo's name of every parameter -> OLMo-core's."""
    blocks = {
        f"transformer.blocks.{layer}.{name}": tuple(f"blocks.{layer}.{part}" for part in of)
        for layer in range(num_layers)
        for name, of in BLOCK.items()
    }
    return {**TOP, **blocks}


def _check_names(folder: Path, weights: Mapping[str, Any], parts: Mapping[str, tuple[str, ...]]) -> None:
    expected = {name for of in parts.values() for name in of}
    if missing := sorted(expected - weights.keys()):
        raise Unreadable(f"{folder}: the weights have no {missing[0]}, which its config.json asks for")
    if more := sorted(weights.keys() - expected):
        raise Unreadable(f"{folder}: the weights have {more[0]}, which its config.json has no place for")


def _joined(
    folder: Path, tensors: Mapping[str, torch.Tensor], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, torch.Tensor]:
    """The tensors under ai2-olmo's names."""
    joined: dict[str, torch.Tensor] = {}
    for name, of in parts.items():
        if absent := [part for part in of if not isinstance(tensors.get(part), torch.Tensor)]:
            raise Unreadable(f"{folder}: there is no tensor {absent[0]}")
        try:
            joined[name] = tensors[of[0]] if len(of) == 1 else torch.cat([tensors[part] for part in of])
        except RuntimeError as error:
            raise Unreadable(f"{folder}: {', '.join(of)} don't fit together: {error}") from None
    return joined


def _moments(folder: Path, parts: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, torch.Tensor]]:
    """Parameter -> its step and both moments."""
    prefix = "optim.state."
    found = olmo_core.read_values(folder, lambda key: key.startswith(prefix))
    of_moment = {
        moment: {
            key.removeprefix(prefix).removesuffix(f".{moment}"): value
            for key, value in found.items()
            if key.endswith(f".{moment}")
        }
        for moment in MOMENTS
    }
    averages = {moment: _joined(folder, of_moment[moment], parts) for moment in MOMENTS[1:]}
    steps = {name: _step(folder, [of_moment["step"].get(part) for part in of], of) for name, of in parts.items()}
    return {name: {"step": steps[name], **{m: averages[m][name] for m in MOMENTS[1:]}} for name in parts}


def _step(folder: Path, steps: list[Any], of: tuple[str, ...]) -> torch.Tensor:
    """The one step count of parameters that are joined."""
    numbers = {float(step) if isinstance(step, torch.Tensor) and step.numel() == 1 else step for step in steps}
    if len(numbers) != 1 or not isinstance(number := numbers.pop(), int | float):
        raise Unreadable(f"{folder}: optim.state: {', '.join(of)} have no step count, or several")
    return torch.tensor(float(number))


def _joined_settings(
    folder: Path, settings: Mapping[str, Mapping[str, Any]], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, Any]]:
    """Parameter under ai2-olmo's name -> the optimizer's settings of it; Unreadable if joined ones differ."""
    joined: dict[str, dict[str, Any]] = {}
    for name, of in parts.items():
        if absent := [part for part in of if not settings.keys() >= {part}]:
            raise Unreadable(f"{folder}: the optimizer has no settings of {absent[0]}")
        of_parts = [_plain_settings(folder, part, settings[part]) for part in of]
        if any(other != of_parts[0] for other in of_parts[1:]):
            raise Unreadable(
                f"{folder}: the optimizer treats {' and '.join(of)} differently, which ai2-olmo has in one matrix"
            )
        joined[name] = of_parts[0]
    return joined


def _plain_settings(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    if absent := [key for key in HYPERPARAMETERS if key not in settings]:
        raise Unreadable(f"{folder}: optim.param_groups: {name} has no {absent[0]}")
    try:
        betas = tuple(float(beta) for beta in settings["betas"])
        return {**{key: float(settings[key]) for key in HYPERPARAMETERS if key != "betas"}, "betas": betas}
    except (TypeError, ValueError):
        raise Unreadable(f"{folder}: optim.param_groups: {name} has settings that are no numbers") from None


def _training(
    folder: Path,
    config: Mapping[str, Any],
    train: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]],
    moments: Mapping[str, Mapping[str, torch.Tensor]],
) -> OlmoCoreTraining:
    """The configuration of the training in ai2-olmo's terms."""
    stuck = train["global_step"] > 0 and bool(moments) and all(not state["step"] for state in moments.values())
    chosen = rules(config, stuck=stuck)
    chosen.groups = _groups(settings)
    dtypes = {str(state[name].dtype).removeprefix("torch.") for state in moments.values() for name in MOMENTS[1:]}
    if len(dtypes) > 1:
        raise Unreadable(f"{folder}: the optimizer's moments are of several types: {', '.join(sorted(dtypes))}")
    chosen.moments = next(iter(dtypes), "float32")
    if chosen.moments not in ("float32", "bfloat16"):
        raise Unreadable(f"{folder}: the optimizer's moments are {chosen.moments}; allowed: float32, bfloat16")
    try:
        tree = training_tree(config, paths=_paths(folder, config), seed=train["data_loader"]["seed"])
        return OlmoCoreTraining.new(run_name=folder.name, optimizer=_optimizer_tree(settings), olmo_core=chosen, **tree)
    except Unreadable:
        raise
    except Exception as error:  # ai2-olmo's, OmegaConf's and Python's own: whatever the tree provokes
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise Unreadable(f"{folder / 'config.json'} is no configuration that ai2-olmo takes: {words}") from None


def _optimizer_tree(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """AdamW as ai2-olmo's `OptimizerConfig` has it; the groups have settings of their own beside."""
    first = next(iter(settings.values()))
    return {
        "name": "adamw",
        "learning_rate": first["lr"],
        "betas": list(first["betas"]),
        "eps": first["eps"],
        "weight_decay": max(each["weight_decay"] for each in settings.values()),
    }


def _groups(settings: Mapping[str, Mapping[str, Any]]) -> list[OptimizerGroup]:
    """The parameters with equal settings; the group with the most comes first, and its rate is the checkpoint's."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for name, each in settings.items():
        alike.setdefault(tuple(each[key] for key in HYPERPARAMETERS), []).append(name)
    ordered = sorted(alike.items(), key=lambda item: -len(item[1]))
    first = dict(zip(HYPERPARAMETERS, ordered[0][0], strict=True))
    groups = []
    for number, (values, names) in enumerate(ordered):
        each = dict(zip(HYPERPARAMETERS, values, strict=True))
        ratio = each["lr"] / first["lr"] if first["lr"] else 1.0
        groups.append(
            OptimizerGroup(params=names if number else None, lr_ratio=ratio, weight_decay=each["weight_decay"])
        )
    return groups


def _saved_groups(training: OlmoCoreTraining, settings: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The param groups as ai2-olmo saves them, by name."""
    groups = param_groups(training, architecture_of(training).empty(torch.device("meta")))
    return [
        {
            **{key: value for key, value in group.items() if key != "params"},
            **settings[group["param_names"][0]],
            "params": list(group["param_names"]),
        }
        for group in groups
    ]


def _shapes(training: OlmoCoreTraining) -> dict[str, torch.Size]:
    architecture = architecture_of(training)
    return {
        name: tensor.shape for name, tensor in architecture.weights(architecture.empty(torch.device("meta"))).items()
    }


def _paths(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """The token files in the loader's order: those of config.json, or of data_paths.txt where it names a mix."""
    if paths := config["dataset"].get("paths"):
        return [str(path) for path in paths]
    file = folder / "data_paths.txt"
    return file.read_text().split() if file.is_file() else []


def _write_position(into: Path, config: Mapping[str, Any], train: Mapping[str, Any]) -> None:
    loader = train["data_loader"]
    batch_tokens = config["data_loader"]["global_batch_size"]
    batches = loader["tokens_processed"] // batch_tokens
    write_position(
        into,
        step=train["global_step"],
        epoch=loader["epoch"],
        instances=batches * batch_tokens // config["dataset"]["sequence_length"],
        tokens=train["global_train_tokens_seen"],
    )
