"""The files that decide what lm-eval's task definitions in a folder ask: they, and what they name elsewhere."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sweep.system.files import expanded, version

NAMED = ("data_files", "data_dir")
"""Keys of `dataset_kwargs` whose values name files or folders."""
PARTS = ("include", "task", "dataset_path")
"""Keys of a definition whose values may name another file: a base, a task of a group, a loading script or a folder."""


Versions = tuple[tuple[str, int, int], ...]
"""Path, size in bytes, and time of the last change in ns, of each file."""


class _Definition(yaml.SafeLoader):
    """Reads lm-eval's YAML without running anything: `!function module.name` is the path of the module."""


def _module(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> str:
    return f"{str(node.value).rpartition('.')[0]}.py"


_Definition.add_multi_constructor("!", _module)


def task_files(include: str) -> list[Path]:
    """The files of the folder, and those that its definitions name elsewhere, from their folder or the working one."""
    pending = [Path(path).absolute() for path in expanded(f"{glob.escape(include)}/**")]
    found: dict[Path, None] = {}
    while pending:
        path = pending.pop()
        if path in found or path.parent.name == "__pycache__" or not path.is_file():
            continue
        found[path] = None
        if path.suffix in (".yaml", ".yml", "") or path.name.endswith("_yaml"):
            pending += _named(path)
    return sorted(found)


def task_versions(include: str | None) -> Versions:
    """The versions of `task_files`; none without a folder."""
    return () if include is None else tuple((str(file), *version(file)) for file in task_files(include))


def _named(definition: Path) -> Iterator[Path]:
    """What a definition names that is on this disk."""
    for name in _names(definition, version(definition)):
        if name and "://" not in name:
            for base in (definition.parent, Path.cwd()):
                for path in map(Path, expanded(str(base / name))):
                    yield from sorted(path.rglob("*")) if path.is_dir() else [path]


def read_definition(file: Path) -> Any:
    """What a YAML file holds, without running anything; None if it can't be read, which whoever loads the task says."""
    try:
        return yaml.load(file.read_text(), _Definition)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


@cache
def _names(definition: Path, _: tuple[int, int]) -> tuple[str, ...]:
    """The texts of a definition that may name files, read once while it is of this version."""
    return tuple(_texts(read_definition(definition)))


def _texts(tree: Any, key: str | None = None) -> Iterator[str]:
    """The texts of a definition that may name files."""
    if isinstance(tree, dict):
        for name, below in tree.items():
            yield from _texts(below, key if key in NAMED else str(name))
    elif isinstance(tree, list):
        for below in tree:
            yield from _texts(below, key)
    elif isinstance(tree, str) and (key in (*NAMED, *PARTS) or tree.endswith(".py")):
        yield tree
