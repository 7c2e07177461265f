"""How a run is told from others: by its key, for programs, and by its name and folder, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config import Anneal, RunConfig, merged_steps, params, tree
from sweep.config.published import folder_of, listed_steps
from sweep.domain import cache_versions
from sweep.domain.digests import digest

FOLDER_CHARS = 20
"""Characters of a local checkpoint's folder name that a run's name shows: `step556000-unsharded` fits."""


NOT_AXES = ("seed", "arm", "anneal", "anneal.save_interval", "anneal.keep", "compute.activation_checkpointing")
"""Params that are noise, decide no number of a run, or name the arm itself; no axis is one of them."""
KEY_CHARS = 8
"""Characters of a key, at least, that stand for it in a name."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a run is told from others by."""

    sweep: str
    """The sweep that it belongs to."""
    key: str
    """Digest of the choices that decide its numbers."""
    name: str
    """The run in a few words."""
    params: Mapping[str, Any]
    """Dotted name -> value of every choice that tables and MLflow show."""

    @property
    def folder(self) -> str:
        """Its folder's name in its sweep's folder: readable, and different from every other run's."""
        return folder_name(self.name, self.key)

    @property
    def checkpoint(self) -> str:
        """The checkpoint in a few words: the first part of the name."""
        return self.name.partition(" ")[0]


def run_identity(config: RunConfig) -> Identity:
    """The names that follow from a configuration."""
    return Identity(sweep=config.name, key=run_key(config), name=run_name(config), params=params(config))


def run_key(config: RunConfig) -> str:
    """Digest of every choice that decides a run's numbers; the sweep's name, tracking and bookkeeping don't."""
    choices = tree(config)
    for ignored in ("name", "tracking", "controls"):
        del choices[ignored]
    for ignored in ("name", "save_interval", "keep"):
        del choices["anneal"][ignored]
    del choices["compute"]["activation_checkpointing"]
    if config.compute.reuse == "same":
        del choices["compute"]["reuse"]
    if config.compute.device == "cuda":
        del choices["compute"]["threads"]
    for of_the_hub in ("repo", "revision"):
        if choices["checkpoint"][of_the_hub] is None:
            del choices["checkpoint"][of_the_hub]
    choices["model"] = _decisive(config)
    if config.anneal.arm == "constant":  # what the decay would be doesn't matter
        choices["anneal"] |= {"final_fraction": 0.0, "hold_steps": 0}
    if not config.anneal.steps:  # nothing is trained: how it would be doesn't matter
        choices["anneal"] = {"steps": 0, "merge": choices["anneal"]["merge"]}
        choices["data"] = {name: choices["data"][name] for name in ("heldout", "tokenizer")}
        scoring = ("device", "threads", "reuse")
        choices["compute"] = {name: value for name, value in choices["compute"].items() if name in scoring}
        del choices["seed"]
    trained = [cache_versions.CORPUS, cache_versions.NUMERICS, cache_versions.Z_LOSS]
    code = [*trained, cache_versions.REQUESTS, cache_versions.PACK, cache_versions.ENGINE]
    return digest("run", code, cache_versions.wheels(), choices)


def _decisive(config: RunConfig) -> dict[str, Any]:
    """The choices of the model without those that are only told to people, and without steps that it isn't run at."""
    chosen = tree(config.model)
    del chosen["resources"]
    published, step = config.model.published, config.checkpoint.step
    if published is None:
        return chosen
    for told in ("cite", "data", "recipes"):
        del chosen["published"][told]
    del chosen["checkpoint_step"]
    merge = config.anneal.merge
    steps = [step] if merge is None else merged_steps(merge, config.model.name, step or 0, listed_steps(published))
    chosen["published"]["steps"] = [[s, folder_of(published, s or 0)] for s in steps]
    return chosen


def run_name(config: RunConfig) -> str:
    """The run in a few words: model, checkpoint step, anneal, and all that differs from the plain default."""
    anneal, at = config.anneal, "_".join(_checkpoint_words(config).split())  # one word, whatever a folder is called
    words = [at, *(_anneal_words(config) if anneal.steps else _untrained_words(anneal))]
    if config.tasks.name != "core8":
        words.append(config.tasks.name)
    if config.tasks.limit is not None:
        words.append(f"limit={config.tasks.limit}")
    return " ".join(words)


def _checkpoint_words(config: RunConfig) -> str:
    """The model, and its checkpoint's step, or the revision on the Hub."""
    checkpoint, name = config.checkpoint, config.model.name
    if (place := checkpoint.path or checkpoint.repo) is not None:
        name = f"{name}:{place.rstrip('/').rpartition('/')[2][:FOLDER_CHARS]}"
    at = checkpoint.step if checkpoint.revision is None else checkpoint.revision.replace("/", "-")
    return name if at is None else f"{name}@{at}"


def _untrained_words(anneal: Anneal) -> list[str]:
    """Words for a run without updates: none, or which average."""
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
    if config.data.position == "start":
        words.append("start")
    if config.seed:
        words.append(f"seed={config.seed}")
    if config.compute.precision != "fp32":
        words.append(config.compute.precision)
    return words


def run_names(configs: Sequence[RunConfig], keys: Sequence[str] | None = None) -> list[str]:
    """The names of these runs for people, each different from the others; `keys` are their run keys, if known."""
    names = [run_name(config) for config in configs]
    if len(set(names)) == len(names):
        return names
    keys = keys or [run_key(config) for config in configs]
    return told_apart(names, [params(config) for config in configs], keys)


def told_apart(names: Sequence[str], choices: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """The names; those that read alike are extended by choices in which they differ, or else by their keys.

    A choice that separates nothing that the choices before it leave together is left out. Equal keys are one thing, so
    they keep one name.
    """
    apart = list(names)
    for members in _alike(names, keys):
        for i, ending in zip(members, _endings(members, choices, keys), strict=True):
            apart[i] = f"{names[i]} {ending}"
    if _alike(apart, keys):  # an ending made a name that another one has
        return told_apart(apart, [{}] * len(apart), keys)
    return apart


def _alike(names: Sequence[str], keys: Sequence[str]) -> list[list[int]]:
    """The places of each name that several keys have."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return [members for members in places.values() if len({keys[i] for i in members}) > 1]


def _endings(members: Sequence[int], choices: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """For each member the choices that tell it from those with other keys, and its key if none does."""
    telling: list[str] = []
    groups = [""] * len(members)
    for choice in dict.fromkeys(name for i in members for name in choices[i]):
        finer = [f"{group} {choices[i].get(choice)!r}" for group, i in zip(groups, members, strict=True)]
        if len(set(groups)) < min(len(set(finer)), len({keys[i] for i in members})):
            groups = finer
            telling.append(choice)
    words = [" ".join(f"{choice}={_text(choices[i].get(choice))}" for choice in telling) for i in members]
    length = KEY_CHARS
    while len({keys[i][:length] for i in members}) < len({keys[i] for i in members}):
        length += 1
    unclear = {words[place] for group in _alike(words, [keys[i] for i in members]) for place in group}
    return [
        f"{word} {keys[i][:length]}".strip() if word in unclear else word
        for i, word in zip(members, words, strict=True)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def is_of_checkpoint(param: str) -> bool:
    """Whether a param chooses the checkpoint, and not what is done to it."""
    return f"{param}.".startswith(("model.", "checkpoint."))


def run_folder(config: RunConfig) -> str:
    """The run's folder in its sweep's folder."""
    return folder_name(run_name(config), run_key(config))


def folder_name(name: str, key: str) -> str:
    """A run's name in the characters that every file system takes, and the beginning of its key."""
    readable = "".join(c if c.isalnum() or c in "=.-_" else "_" for c in name.replace("@", "-step"))
    return f"{readable[:150]}-{key[:KEY_CHARS]}"


def label(task: str, limit: int | None) -> str:
    """A task's name in scores and tables. A task with a limit is another task than the whole one."""
    return task if limit is None else f"{task}:{limit}"
