"""Every leaf of the configuration refuses wrong types, senseless sizes and odd characters, in words.

The leaves are found in the types, so a new leaf is tried by itself. SWEEP_FUZZ_SEED and SWEEP_FUZZ_CASES try others.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import random
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from omegaconf import DictConfig, OmegaConf

from sweep.config import RunConfig, tree
from sweep.config.launcher import OURS, settings
from sweep.domain.errors import Refusal
from sweep.planning.names import run_folder
from sweep.planning.run_cost import forecast
from sweep.sweeps.points import typed
from tests.composing import composed

SEED, CASES = int(os.environ.get("SWEEP_FUZZ_SEED", "1")), int(os.environ.get("SWEEP_FUZZ_CASES", "600"))
BASES: dict[str, tuple[str, ...]] = {
    "anneal": (),
    "merge": ("anneal=merge",),
    "mixture": ("data=mixture",),
    "published": ("model=olmo-1b",),
    "custom": ("tasks=custom", "+tasks.suites.custom.metrics.mine=acc"),
}
HUGE: tuple[Any, ...] = (10**12, 10**400, -1, -(10**30), 2**63, 1e308, -1e308, float("nan"), float("inf"))
ODD: tuple[Any, ...] = ("a\nb", "a\0b", "\u202eab", "a\udcffb", "a\u2028b", "x" * 5000, "/" + "y" * 300, "")
OTHER: tuple[Any, ...] = (
    True,
    False,
    3,
    0,
    2.5,
    "text",
    "3",
    "true",
    [],
    [1],
    {},
    {"a": 1},
    None,
    [[None]],
    ["a", "a"],
)
NEVER: dict[type, tuple[Any, ...]] = {
    int: (True, False, "3", 2.5, -(10**30), 10**400, 1e308, float("nan"), [1], {"a": 1}, "a\nb"),
    float: (True, False, "3", 1e308, -1e308, float("nan"), float("inf"), [1], {"a": 1}, "a\nb"),
    bool: (0, 1, 2.5, "true", "yes", "a\nb", [True], {"a": True}),
    str: (True, 2.5, *(text for text in ODD if "yy" not in text), [["a"]], {"a": {"b": 1}}),
}
"""Type -> values that every leaf of this type must refuse."""
FREE = ("model.architecture", "controls", "files")
"""Groups whose names are not fields; they have tests of their own."""


def leaves(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type]]:
    """Path and plain type of every leaf of a dataclass of choices."""
    for field in dataclasses.fields(kind):
        yield from _of(get_type_hints(kind)[field.name], (*path, field.name))


def _of(hint: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], type]]:
    if ".".join(path) in FREE:
        return
    if dataclasses.is_dataclass(hint):
        yield from leaves(hint, path)
        return
    if get_origin(hint) is dict and any(dataclasses.is_dataclass(arg) for arg in get_args(hint)):
        yield from _of(get_args(hint)[1], (*path, "*"))
        return
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    groups = [arg for arg in inner if dataclasses.is_dataclass(arg) or get_origin(arg) is dict]
    if groups:
        yield from _of(groups[0], path)
    elif len(inner) == 1 and get_origin(hint) is not Literal and get_origin(hint) is not tuple:
        yield from _of(inner[0], path)
    else:
        yield path, hint if isinstance(hint, type) else str


LEAVES = sorted(set(leaves(RunConfig)), key=str)


def at(plain: Any, path: tuple[str, ...]) -> list[tuple[Any, str]]:
    """Each (group, name) that the path means in this tree; `*` is every name."""
    groups = [plain]
    for name in path[:-1]:
        below = [g[key] for g in groups for key in (g if name == "*" else [name]) if isinstance(g, dict) and key in g]
        groups = [group for group in below if isinstance(group, dict)]
    return [(group, path[-1]) for group in groups if path[-1] in group]


def refused(plain: dict[str, Any]) -> str | None:
    """The words with which this tree is refused, by all that a preview does; None if it could be run."""
    try:
        config = typed(DictConfig(plain))
        run_folder(config)
        forecast(config)
    except Refusal as refusal:
        return str(refusal)
    return None


@pytest.fixture(scope="module")
def bases() -> dict[str, dict[str, Any]]:
    plain = {name: tree(composed(*words)) for name, words in BASES.items()}
    for one in plain.values():
        del one["files"]
    return {name: json.loads(json.dumps(one)) for name, one in plain.items()}


def test_every_leaf_is_reached(bases: dict[str, dict[str, Any]]) -> None:
    missed = {path for path, _ in LEAVES if not any(at(base, path) for base in bases.values())}
    assert len(LEAVES) > 80
    assert not missed


@pytest.mark.parametrize(("path", "kind"), LEAVES, ids=lambda x: ".".join(x) if isinstance(x, tuple) else "")
def test_a_leaf_takes_nothing_of_another_type(path: tuple[str, ...], kind: type, bases: dict[str, Any]) -> None:
    base = next(base for base in bases.values() if at(base, path))
    for value in NEVER[kind]:
        plain = copy.deepcopy(base)
        for group, name in at(plain, path):
            group[name] = value
        words = refused(plain)
        assert words is not None, f"{'.'.join(path)}={value!r}"
        assert all(line.isprintable() for line in words.splitlines())


@pytest.mark.slow
def test_random_values_of_random_leaves_are_run_or_refused_in_words(bases: dict[str, Any]) -> None:
    draw = random.Random(SEED)
    said = 0
    for _ in range(CASES):
        plain = copy.deepcopy(bases[draw.choice([*bases])])
        for path, _kind in draw.sample(LEAVES, draw.choice((1, 1, 2, 4))):
            for group, name in at(plain, path):
                group[name] = draw.choice((*HUGE, *ODD, *OTHER))
        said += refused(plain) is not None
    assert said > CASES / 3


@pytest.mark.parametrize("kind", [kind for _, kind in OURS.values()], ids=lambda kind: kind.__name__)
def test_settings_of_launchers_and_sweeper_are_taken_or_refused_in_words(kind: type) -> None:
    draw, said = random.Random(SEED), 0
    names = [field.name for field in dataclasses.fields(kind)]
    for name in names:
        for value in (*HUGE, *ODD, *OTHER):
            with contextlib.suppress(Refusal):
                settings(kind, {name: value, draw.choice(names): value})
                said -= 1
            said += 1
    assert said > len(names) * 10


def test_a_leaf_that_is_an_interpolation_of_itself_is_refused() -> None:
    broken = OmegaConf.create({"name": "${seed}", "seed": "${name}"})
    with pytest.raises(Refusal, match=r"name: .*nterpolation"):
        typed(broken)
