"""Records what one command asks: which params its runs vary. A report answers each question by itself.

A command leaves a file in `.questions` of its sweep's folder, named by the digest of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config import params
from sweep.domain.digests import digest
from sweep.planning.controls import Point
from sweep.planning.names import NOT_AXES
from sweep.sweeps.run_folders import MULTIRUN
from sweep.system.files import write_durably

FOLDER = ".questions"
NO_QUESTION = ("name", "controls", "tracking", "hydra", "tasks", "experiment")
"""Keys, and groups of keys, that no question asks about; NOT_AXES are others."""


class Questions:
    """What one command asks, in the folder of each sweep that its runs belong to."""

    def __init__(self) -> None:
        self._asked: dict[str, _Asked] = {}
        """By the sweep's name."""

    def record(self, batch: Sequence[Point]) -> None:
        """Record what the command asks with these runs and those before; the record of those before is replaced."""
        for name in dict.fromkeys(point.config.name for point in batch):
            asked = self._asked.setdefault(name, _Asked(MULTIRUN / name / FOLDER))
            asked.add([point for point in batch if point.config.name == name])


class _Asked:
    """What one command asks in one sweep."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._runs = folder, set[str]()
        self._of_arms: dict[bool, Varied] = {True: Varied(), False: Varied()}
        """What the anneals vary, and what the other runs do, which counts if there is no anneal."""
        self._own: Path | None = None
        """The file that this command wrote."""

    def add(self, batch: Iterable[Point]) -> None:
        """Record these runs with those before."""
        for point in batch:
            self._runs.add(point.key)
            self._of_arms[point.config.anneal.arm == "decay"].add(params(point.config))
        varied = self._of_arms[self._of_arms[True].runs > 0]
        if varied.runs < 2:
            return
        content = {"axes": list(varied.axes), "runs": sorted(self._runs)}
        path = self._folder / f"{digest(content)}.json"
        if path == self._own:
            return
        before, self._own = self._own, None
        if not path.is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(path, json.dumps(content))
            self._own = path
        if before is not None:
            before.unlink(missing_ok=True)


class Varied:
    """Which params differ between runs that come one after another."""

    def __init__(self) -> None:
        self.runs = 0
        self._first: Mapping[str, Any] = {}
        self._names: dict[str, bool] = {}
        """Param -> whether a run has another value than the first one."""

    def add(self, chosen: Mapping[str, Any]) -> None:
        """One more run."""
        if not self.runs:
            self._first = chosen
        self.runs += 1
        for name, value in chosen.items():
            if not self._names.setdefault(name, False) and repr(value) != repr(self._first.get(name)):
                self._names[name] = True
        for name in self._first.keys() - chosen.keys():
            self._names[name] = self._names[name] or self._first[name] is not None

    @property
    def axes(self) -> list[str]:
        """Those that differ, without those that ask nothing."""
        return [name for name, differs in self._names.items() if differs and asks(name)]


def varied(choices: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The params that differ between these runs, without those that ask nothing."""
    seen = Varied()
    for chosen in choices:
        seen.add(chosen)
    return tuple(seen.axes)


def asks(name: str) -> bool:
    """Whether the values of this param, or of this key, may be what a question is about."""
    return name not in NOT_AXES and not is_below(name, NO_QUESTION)


def is_below(name: str, groups: Sequence[str]) -> bool:
    """Whether the name is one of the groups, or lies in one."""
    return f"{name}.".startswith(tuple(f"{group}." for group in groups))
