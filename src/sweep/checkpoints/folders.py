"""Converts Hugging Face folders on disk to ai2-olmo's unsharded checkpoint folders, and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from olmo.config import TrainConfig
from tokenizers import Tokenizer

from sweep.checkpoints.examine import check_finite
from sweep.checkpoints.huggingface import NoEqual, architecture, config_json, from_native, is_hf_olmo, to_native
from sweep.checkpoints.olmo import load_model, write_position
from sweep.checkpoints.tensors import read_pt, reading, save_file, write_tensors
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.models import architecture_of, config_json_of, of_transformers, training_config, transformers_sizes

STEMS = ("model.safetensors", "pytorch_model.bin")
"""The weights of a Hub folder, each also in shards under `NAME.index.json`."""


def import_folder(snapshot: Path, into: Path, *, training: Mapping[str, Any], step: int, tokens: int) -> None:
    """Write `into` as the OLMo checkpoint of a local Hub snapshot: config.yaml, model.safetensors, train.pt.

    `training` holds the settings of `TrainConfig` besides `model`, which the Hub does not have. `step` and `tokens`
    (exact, all in the first epoch) are its position. No optimizer is written. A ValueError names the fault.
    """
    hub_config = json.loads((snapshot / "config.json").read_text())
    try:
        config = training_config(**training, **model_tree(snapshot))
    except Refusal:
        raise
    except Exception as error:  # ai2-olmo's, OmegaConf's and Python's own: whatever the trees provoke
        raise ValueError(f"{snapshot / 'config.json'} and the given training don't fit ai2-olmo: {error}") from error
    weights = _read_weights(snapshot)
    if (own := config_json_of(config)) is not None:
        weights = of_transformers(own).imported(weights)
    elif is_hf_olmo(hub_config):
        weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    else:
        weights = from_native(weights, config.model)
    weights = _checked(weights, config, snapshot)
    into.mkdir(parents=True, exist_ok=True)
    config.save(into / "config.yaml")
    write_tensors(weights, into / "model.safetensors")
    write_position(into, step=step, epoch=0, instances=tokens // config.model.max_sequence_length, tokens=tokens)


def model_tree(snapshot: Path) -> dict[str, Any]:
    """`model` of a training configuration for a Hub snapshot, and `transformers` where ai2-olmo has no such model.

    Refusal if transformers hasn't, either.
    """
    hub_config = json.loads((snapshot / "config.json").read_text())
    try:
        return {"model": architecture(hub_config)}
    except NoEqual:
        sizes = transformers_sizes(hub_config)
    if sizes["eos_token_id"] is None:
        sizes["eos_token_id"] = _end_of_text(snapshot)
        sizes["pad_token_id"] = sizes["eos_token_id"] if sizes["pad_token_id"] is None else sizes["pad_token_id"]
    return {"model": sizes, "transformers": hub_config}


def _end_of_text(snapshot: Path) -> int:
    """The id of the token that ends a document, by the tokenizer's own files; Refusal if they name none."""
    try:
        named = json.loads((snapshot / "tokenizer_config.json").read_text()).get("eos_token")
        name = named.get("content") if isinstance(named, dict) else named
        found = Tokenizer.from_file(str(snapshot / "tokenizer.json")).token_to_id(str(name))
    except Exception:  # the library raises nothing narrower
        found = None
    if found is None:
        raise Refusal("config.json: eos_token_id=null, and tokenizer_config.json beside it names no eos_token, either")
    return found


def export_folder(folder: Path, config: TrainConfig, into: Path, *, tokenizer: Path, rules: TextRules) -> None:
    """Write `into` as the native Hugging Face folder of a checkpoint: config, weights in fp32, tokenizer.

    A Refusal names the setting for which transformers has no class. Transformers 4 reads the files too.
    """
    own = config_json_of(config)
    hub_config = config_json(config.model) if own is None else {k: v for k, v in own.items() if k != "dtype"}
    words = Tokenizer.from_file(str(tokenizer))
    if (size := words.get_vocab_size()) > (rows := hub_config["vocab_size"]):
        raise Refusal(f"{tokenizer} has {size} tokens, more than the {rows} rows of the embedding")
    if own is None:
        hub_config |= {"bos_token_id": rules.bos_token_id, "eos_token_id": rules.eos_token_id}
    into.mkdir(parents=True, exist_ok=True)
    _write_weights(folder, config, into)
    _write_json(into / "config.json", {**hub_config, "torch_dtype": "float32"})
    special = {name: hub_config.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
    special = {name: token for name, token in special.items() if token is not None}
    ends = {f"{name}_token_id": token for name, token in special.items()}
    _write_json(into / "generation_config.json", {"_from_model_config": True, **ends})
    shutil.copyfile(tokenizer, into / "tokenizer.json")
    if own is not None and (beside := tokenizer.parent / "tokenizer_config.json").is_file():
        shutil.copyfile(beside, into / "tokenizer_config.json")
        return
    named = {f"{name}_token": words.id_to_token(token) for name, token in special.items() if isinstance(token, int)}
    behaviour = {"clean_up_tokenization_spaces": False, "model_max_length": config.model.max_sequence_length}
    _write_json(into / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named, **behaviour})


def _write_weights(folder: Path, config: TrainConfig, into: Path) -> None:
    """Write the weights of a checkpoint in fp32, under transformers' names."""
    cpu = torch.device("cpu")
    if (own := config_json_of(config)) is not None:
        of_transformers(own).export(load_model(folder, config, device=cpu), into)
        for file in into.iterdir():
            file.chmod(into.stat().st_mode & 0o666)
        return
    flat = config.update_with()
    flat.model.block_group_size = 1
    weights = to_native(load_model(folder, flat, device=cpu).state_dict(), config.model)
    save_file(weights, into / "model.safetensors", {"format": "pt"})


def _read_weights(snapshot: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the folder; a ValueError names the file and the tensor that isn't sound."""
    for name in STEMS:
        if (snapshot / name).is_file():
            return _read(snapshot / name)
        if (index := snapshot / f"{name}.index.json").is_file():
            return _read_shards(index)
    raise FileNotFoundError(f"{snapshot} has no weights: neither {' nor '.join(STEMS)}, nor their .index.json")


def _read_shards(index: Path) -> dict[str, torch.Tensor]:
    """The tensors of all shards that an index names; ValueError if they aren't the ones that it lists."""
    try:
        listed = {str(name): str(shard) for name, shard in json.loads(index.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} has no weight_map: {type(error).__name__}: {error}") from error
    shards = sorted(set(listed.values()))
    if outside := [shard for shard in shards if Path(shard).name != shard]:
        raise ValueError(f"{index} names {outside[0]}, which is not in its own folder")
    if absent := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise FileNotFoundError(f"{index} names {len(shards)} files, and {', '.join(absent[:3])} is not there")
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        content = _read(index.parent / shard)
        if missing := [name for name, place in listed.items() if place == shard and name not in content]:
            raise ValueError(f"{index.parent / shard} has no {missing[0]}, which {index.name} says is in it")
        weights |= content
    return weights


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        with reading(file):
            weights = safetensors.torch.load_file(file)
    else:
        weights = read_pt(file)
    for name, tensor in weights.items():
        check_finite(file, name, tensor)
    return weights


def _checked(weights: dict[str, torch.Tensor], config: TrainConfig, snapshot: Path) -> dict[str, torch.Tensor]:
    """The weights under the names of this architecture's model; raises ValueError if names or shapes do not fit it."""
    architecture = architecture_of(config)
    model = architecture.empty(torch.device("meta"))
    weights = architecture.compatible(model, weights)
    shapes = {name: tuple(tensor.shape) for name, tensor in architecture.weights(model).items()}
    weight_shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [name for name in sorted({*shapes, *weight_shapes}) if shapes.get(name) != weight_shapes.get(name)]
    if wrong:
        differences = "; ".join(f"{name}: {weight_shapes.get(name)}, must be {shapes.get(name)}" for name in wrong[:3])
        raise ValueError(f"the weights in {snapshot} are not those of its config.json: {differences}")
    return weights


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
