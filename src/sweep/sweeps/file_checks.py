"""The files and folders that a configuration names on this machine: there, or refused by their key.

A preview and a run both ask here, so that a preview refuses what the run would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sweep.config import RunConfig
from sweep.domain.errors import Refusal, shown
from sweep.system import files
from sweep.system.checkpoint_layouts import check_layout

STORED = "store://"
"""How a path into the store begins."""


def check_files(config: RunConfig) -> None:
    """Refusal if a file or folder that the run reads is not there, or can't be read."""
    for key, path, kind in _read(config):
        try:
            _check(key, path, kind)
        except OSError as error:
            raise Refusal(f"{key}={shown(path)}: {error.strerror or error}") from error


def _read(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Key, path and kind of what the run reads: one `file`, one `folder`, or `some` files that a pattern may match."""
    chosen, merge, anneal = config.data, config.anneal.merge, config.anneal
    if config.checkpoint.path is not None:
        yield "checkpoint.path", config.checkpoint.path, "checkpoint"
    if config.tasks.include is not None:
        yield "tasks.include", config.tasks.include, "folder"
    if chosen.heldout is not None and config.tasks.heldout:
        yield "data.heldout", chosen.heldout, "folder"
    for path in (merge.paths or ()) if merge is not None and not anneal.steps else ():
        yield "anneal.merge.paths", path, "some"
    if not anneal.steps:
        return
    for path in chosen.paths or ():
        yield "data.paths", path, "some"
    for name, source in (chosen.sources or {}).items():
        for path in source.paths or ():
            yield f"data.sources.{name}.paths", path, "some"
    if chosen.root is not None:
        yield "data.root", chosen.root, "folder"


def _check(key: str, path: str, kind: str) -> None:
    if path.startswith(STORED) or ("://" in path and key.startswith("data.") and key != "data.heldout"):
        return
    if kind == "checkpoint":
        try:
            check_layout(Path(path))
        except ValueError as error:
            raise Refusal(f"{key}={shown(path)}: {error}") from error
    elif kind == "folder":
        if not Path(path).is_dir():
            raise Refusal(f"{key}={shown(path)} is not a folder")
        next(Path(path).iterdir(), None)  # raises if it can't be read
    elif not (found := files.expanded(path)):
        raise Refusal(f"{key}={shown(path)} matches no file")
    elif missing := [one for one in found if not Path(one).exists()]:
        raise Refusal(f"{key}={shown(path)}: there is no file {shown(missing[0])}")
