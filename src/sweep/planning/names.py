"""What a thing is called, for people: a run, its folder, a task."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.config import Anneal, RunConfig, params
from sweep.planning.keys import run_key

FOLDER_CHARS = 20
"""Of a checkpoint's own folder, in a run's name: `step556000-unsharded` fits."""


def run_name(config: RunConfig) -> str:
    """The point in a few words: the model, the step, the anneal, and what differs from the plain default."""
    anneal, step, path = config.anneal, config.checkpoint.step, config.checkpoint.path
    model = (
        config.model.name
        if path is None
        else f"{config.model.name}:{path.rstrip('/').rpartition('/')[2][:FOLDER_CHARS]}"
    )
    at = model if step is None else f"{model}@{step}"
    words = [at, *(_anneal_words(config) if anneal.steps else _untrained_words(anneal))]
    if config.tasks.name != "core8":
        words.append(config.tasks.name)
    if config.tasks.limit is not None:
        words.append(f"limit={config.tasks.limit}")
    return " ".join(words)


def _untrained_words(anneal: Anneal) -> list[str]:
    """Of a run without updates: none, or which average."""
    if (merge := anneal.merge) is None:
        return [anneal.arm]
    words = [anneal.arm, merge.weights, f"last={merge.last}"]
    return words if merge.interval is None else [*words, f"every={merge.interval}"]


def _anneal_words(config: RunConfig) -> list[str]:
    anneal = config.anneal
    words = [anneal.shape, str(anneal.steps)]
    if anneal.peak_lr is not None:
        words.append(f"lr={anneal.peak_lr:g}")
    if anneal.peak_scale is not None:
        words.append(f"scale={anneal.peak_scale:g}")
    if anneal.final_fraction and anneal.shape != "constant":
        words.append(f"final={anneal.final_fraction:g}")
    if anneal.warmup_steps:
        words.append(f"warmup={anneal.warmup_steps}")
    if anneal.hold_steps and anneal.shape != "constant":
        words.append(f"hold={anneal.hold_steps}")
    if anneal.optimizer != "keep":
        words.append(f"optimizer={anneal.optimizer}")
    if anneal.betas is not None:
        words.append(f"betas={anneal.betas[0]:g},{anneal.betas[1]:g}")
    if anneal.weight_decay is not None:
        words.append(f"wd={anneal.weight_decay:g}")
    if anneal.max_grad_norm is not None:
        words.append(f"clip={anneal.max_grad_norm:g}")
    if anneal.z_loss is not None:
        words.append(f"z={anneal.z_loss:g}")
    if anneal.batch_size is not None:
        words.append(f"batch={anneal.batch_size}")
    if anneal.sequence_length is not None:
        words.append(f"length={anneal.sequence_length}")
    if config.data.name != "original":
        words.append(config.data.name)
        words += [f"{name}={source.weight:g}" for name, source in (config.data.sources or {}).items()]
    elif config.data.position == "fresh":
        words.append("fresh")
    if config.seed:
        words.append(f"seed={config.seed}")
    if config.compute.precision != "fp32":
        words.append(config.compute.precision)
    return words


def run_names(configs: Sequence[RunConfig]) -> list[str]:
    """The names of a table's rows: where two are the same, with the choices that tell them apart."""
    names = [run_name(config) for config in configs]
    chosen = [params(config) for config in configs]
    for name in {name for name in names if names.count(name) > 1}:
        alike = [i for i, other in enumerate(names) if other == name]
        telling = [key for key in chosen[alike[0]] if len({repr(chosen[i].get(key)) for i in alike}) > 1]
        for i in alike:
            names[i] = " ".join([name, *(f"{key}={chosen[i].get(key)}" for key in telling)])
    return names


def run_folder(config: RunConfig) -> str:
    """Folder of the point inside its sweep's: readable, and unlike every other point's."""
    readable = "".join(c if c.isalnum() or c in "=.-_" else "_" for c in run_name(config).replace("@", "-step"))
    return f"{readable[:150]}-{run_key(config)[:8]}"


def label(task: str, limit: int | None) -> str:
    """A task's name in scores and tables; a limited task is another task."""
    return task if limit is None else f"{task}:{limit}"
