"""The way of the configuration through one run: few rooms get the whole of it, and it seldom climbs back up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.whole.test_architecture import floor, folder
from tests.whole.test_end_to_end import SMALL, home

__all__ = ["home"]

MOST_ROOMS, MOST_CLIMBS = 10, 8
TRACE = """
import json, sys
from pathlib import Path
import sweep
from sweep.__main__ import main

root, way = str(Path(sweep.__file__).parent), []

def look(frame, event, arg):
    code = frame.f_code
    if event != "call" or not code.co_filename.startswith(root):
        return
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    given = [frame.f_locals.get(name) for name in names]
    given += [value for some in given if isinstance(some, list) for value in some]
    if any(type(value).__name__ == "RunConfig" for value in given):
        way.append("sweep." + str(Path(code.co_filename).relative_to(root).with_suffix("")).replace("/", "."))

sys.argv = ["sweep", *sys.argv[1:]]
sys.setprofile(look)
try:
    main()
finally:
    sys.setprofile(None)
    print("WAY " + json.dumps(way))
"""
"""Runs our command and prints the modules whose functions were given the whole configuration, in order."""


def way(home: Path, *overrides: str) -> list[str]:
    words = [sys.executable, "-c", TRACE, *SMALL, "anneal.steps=3", "tracking=none", *overrides]
    environment = {**os.environ, "SWEEP_STORE": str(home / "store")}
    done = subprocess.run(words, cwd=home, env=environment, text=True, capture_output=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("WAY "))
    modules = [name for name in json.loads(line.removeprefix("WAY ")) if folder(name) != "config"]
    return [modules[0], *(after for before, after in pairwise(modules) if after != before)]


@pytest.mark.slow
def test_the_configuration_enters_few_rooms_and_seldom_climbs(home: Path) -> None:
    modules = way(home, "tasks=loss")
    assert len(set(modules)) <= MOST_ROOMS, " ".join(sorted(set(modules)))
    climbs = [(low, high) for low, high in pairwise(modules) if floor(folder(high)) > floor(folder(low))]
    assert len(climbs) <= MOST_CLIMBS, climbs
