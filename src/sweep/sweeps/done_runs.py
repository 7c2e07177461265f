"""Says which of many runs are done without reading each journal, as a sweep's table remembers what was read before."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from sweep.sweeps.run_folders import STATES, is_finished
from sweep.system.store import Store, store_at

FEW = 50
"""So many journals are read sooner than the table."""


def finished_runs(keys: Mapping[Path, str], *, renew: bool) -> set[Path]:
    """Of these folders of runs, with their run keys, those whose run is finished, as `is_finished` says of each.

    A journal that hasn't changed since it was read for the table, and was whole then, isn't read again. The table is
    brought up to date first if `renew`, and else nothing is written.
    """
    known = {*_known(keys, renew=renew)} if len(keys) > FEW else set()
    return {folder for folder, key in keys.items() if folder in known or is_finished(key, folder)}


def _known(keys: Mapping[Path, str], *, renew: bool) -> Iterator[Path]:
    """The folders whose run the tables know as finished, and of whose state and records nothing is damaged."""
    from sweep.sweeps.outcome_table import finished_journals  # its import takes longer than a few journals

    damaged = functools.cache(_damaged)
    for sweep in dict.fromkeys(folder.parent for folder in keys):
        states = store_at(sweep.absolute().parent).root / STATES
        for known in finished_journals(sweep, renew=renew):
            folder = sweep / known.folder
            if keys.get(folder) != known.key or known.state in damaged(str(states)):
                continue
            entries = [path.rsplit("/", 2) for path in known.records]
            if not any(entry in damaged(_place(folder, kind)) for kind, entry, _ in entries):
                yield folder


def _place(folder: Path, kind: str) -> str:
    """The folder to which a path from a run's folder leads, as the same text for all runs of a sweep."""
    return f"{folder.parent}/{kind[3:]}" if kind.startswith("../") else str(folder / kind)


def _damaged(kind: str) -> set[str]:
    """The damaged entries in the folder of one kind in a store."""
    return Store(Path(kind).parent).damaged_keys(Path(kind).name)
