"""What a thing is called, for people: a run, its folder, a task."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.config import RunConfig, params
from sweep.keys import run_key

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
    words = [model if step is None else f"{model}@{step}", anneal.shape, str(anneal.steps)]
    if anneal.peak_lr is not None:
        words.append(f"lr={anneal.peak_lr:g}")
    if anneal.peak_scale is not None:
        words.append(f"scale={anneal.peak_scale:g}")
    if anneal.final_fraction and anneal.shape != "constant":
        words.append(f"final={anneal.final_fraction:g}")
    if anneal.hold_steps:
        words.append(f"hold={anneal.hold_steps}")
    if anneal.weight_decay is not None:
        words.append(f"wd={anneal.weight_decay:g}")
    if anneal.max_grad_norm is not None:
        words.append(f"clip={anneal.max_grad_norm:g}")
    if config.data.name != "original":
        words.append(config.data.name)
        words += [f"{name}={source.weight:g}" for name, source in (config.data.sources or {}).items()]
    elif config.data.position == "fresh":
        words.append("fresh")
    if config.seed:
        words.append(f"seed={config.seed}")
    if config.compute.precision != "fp32":
        words.append(config.compute.precision)
    if config.tasks.name != "core8":
        words.append(config.tasks.name)
    if config.tasks.limit is not None:
        words.append(f"limit={config.tasks.limit}")
    return " ".join(words)


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
