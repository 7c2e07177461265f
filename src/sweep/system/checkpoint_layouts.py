"""Recognises the layout of a checkpoint by the names of its files; one that is not read is named for what it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

UNSHARDED = "an OLMo unsharded folder (config.yaml, model, optim, train.pt)"
STEP_FOLDER = "a step folder of OLMo-core (model_and_optim/.metadata, config.json, train/rank0.pt)"
READ = f"{UNSHARDED}, {STEP_FOLDER}, or a Hugging Face folder of a causal language model (config.json, *.safetensors)"
CONVERT = "convert it to one of these: " + READ
LAYOUTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "a LoRA adapter without the model it belongs to",
        ("adapter_config.json", "adapter_model.*"),
        "merge it into its model first (peft: merge_and_unload), then save_pretrained",
    ),
    (
        "a DeepSpeed ZeRO checkpoint",
        ("zero_to_fp32.py", "global_step*", "*_optim_states.pt", "mp_rank_*_model_states.pt", "zero_pp_rank_*"),
        "its zero_to_fp32.py writes whole weights",
    ),
    (
        "a Megatron checkpoint",
        ("latest_checkpointed_iteration.txt", "iter_[0-9]*", "mp_rank_*", "*/model_optim_rng.pt"),
        "convert it to the Hugging Face format",
    ),
    ("an FSDP checkpoint of accelerate", ("pytorch_model_fsdp*", "optimizer_[0-9]", "optimizer.bin"), CONVERT),
    ("an Orbax checkpoint", ("_CHECKPOINT_METADATA", "_METADATA", "ocdbt.process_*", "manifest.ocdbt"), CONVERT),
    (
        "an OLMo sharded checkpoint of ai2-olmo",
        ("model/rank[0-9]*.pt", "model/metadata.json", "rank[0-9]*.pt"),
        "ai2-olmo's scripts/unshard.py makes it unsharded",
    ),
    (
        "a part of a step folder of OLMo-core, or another torch.distributed.checkpoint folder",
        (".metadata", "*.distcp", "model_and_optim/.metadata", "model_and_optim/*.distcp"),
        f"allowed: {STEP_FOLDER}; a copy without hidden files loses .metadata",
    ),
    ("a GGUF file for llama.cpp", ("*.gguf",), "take the Hugging Face folder that it was made from"),
    ("a NeMo checkpoint", ("*.nemo",), CONVERT),
    ("weights for TensorFlow or Flax alone", ("tf_model.h5", "flax_model*.msgpack"), CONVERT),
    ("Meta's own layout of Llama", ("consolidated.*.pth", "params.json"), CONVERT),
)
"""What a layout is, patterns of which one suffices, and what to do with it; the first that fits counts."""
SHOWN = 5
STEP_FILES = ("model_and_optim/.metadata", "train/rank0.pt")
"""Files of a step folder of OLMo-core that every save writes anew."""


def check_layout(folder: Path) -> None:
    """Raises ValueError if the folder isn't in a layout that is read; it says which one it is in, and what to do."""
    if not folder.exists():
        raise ValueError(f"there is no such folder; allowed: {READ}")
    if not folder.is_dir():
        gguf = " (a GGUF file for llama.cpp)" if folder.suffix == ".gguf" else ""
        raise ValueError(f"it is a file{gguf}; allowed: {READ}")
    if (folder / "config.yaml").is_file() and any((folder / f"model.{end}").is_file() for end in ("safetensors", "pt")):
        return
    if (folder / "config.json").is_file() and len(step_files(folder)) == len(STEP_FILES):
        return
    for layout, patterns, remedy in LAYOUTS:
        if any(next(folder.glob(pattern), None) is not None for pattern in patterns):
            raise ValueError(f"it is {layout}; {remedy}")
    if (folder / "config.json").is_file():
        _check_config_json(folder)
    elif not (folder / "config.yaml").is_file():
        raise ValueError(f"it is no checkpoint: {_content(folder)}; allowed: {READ}")


def step_files(folder: Path) -> list[Path]:
    """Those of STEP_FILES that the folder has."""
    return [file for name in STEP_FILES if (file := folder / name).is_file()]


def _check_config_json(folder: Path) -> None:
    """Raises ValueError if a Hugging Face folder's weights are not plain ones."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is not a JSON object")
    if (quantised := config.get("quantization_config")) is not None:
        method = quantised.get("quant_method", "") if isinstance(quantised, dict) else quantised
        raise ValueError(
            f"{file}: quantization_config: the weights are quantised ({method}), and quantised weights can't be "
            "annealed; take the folder in fp32 or bf16"
        )


def _content(folder: Path) -> str:
    """What a folder that isn't a checkpoint holds, in a few words."""
    names = sorted(path.name for path in folder.iterdir())
    if steps := [name for name in names if re.match(r"(?:.*[-_])?step[-_]?\d+", name) and (folder / name).is_dir()]:
        return f"it holds {len(steps)} checkpoints, {', '.join(steps[:SHOWN])}: give one of them"
    return f"it holds {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}" if names else "it is empty"
