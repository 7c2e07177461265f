"""Control arms of a sweep's points: what tells an anneal apart from more data, an average, and nothing (pure)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from sweep.config import Anneal, RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.names import run_key, run_name

log = logging.getLogger(__name__)

CONSTANT: dict[str, Any] = {
    "name": "constant",
    "shape": "constant",
    "peak_lr": None,
    "peak_scale": None,
    "final_fraction": 0.0,
    "warmup_steps": 0,
    "hold_steps": 0,
}
"""Of an anneal's choices, what the same updates at the learning rate in force have."""
UNTRAINED = ("anneal", "seed", "controls")
"""Choices that a run without updates doesn't have."""
Words = tuple[str, ...]
"""Overrides of one point."""


def constant_of(config: RunConfig) -> RunConfig:
    """The same updates on the same data at the learning rate in force."""
    anneal = dataclasses.replace(cast(Any, config.anneal), **_constant(config.anneal))
    return cast(RunConfig, dataclasses.replace(cast(Any, config), anneal=anneal, controls=()))


def _constant(anneal: Anneal) -> dict[str, Any]:
    """What an anneal's constant arm has; with a fresh optimizer the anneal's own way up, as none is at a rate yet."""
    kept = () if anneal.optimizer == "keep" else ("peak_lr", "peak_scale", "warmup_steps")
    return {key: value for key, value in CONSTANT.items() if key not in kept}


def expanded(
    points: Sequence[Words], typed: Callable[[Words], RunConfig], *, known: set[tuple[str, str]]
) -> Iterator[tuple[Words, RunConfig]]:
    """The points, before each the controls it asks for that `known` lacks; it takes the (sweep, run key) of all.

    `typed` composes and validates. The words of each make exactly this run, also alone. A merge that the trajectory is
    too short for is left out and said; any other control that can't be run is a Refusal.
    """
    configs = [typed(words) for words in points]
    known |= {_identity(config) for config in configs}
    tried: set[Words] = set()
    for words, config in zip(points, configs, strict=True):
        for arm in config.controls:
            wanted = control_words(words, config, arm)
            if wanted is None or wanted in tried:
                continue
            tried.add(wanted)
            try:
                control = typed(wanted)
            except Refusal as refusal:
                if arm != "merge":
                    raise
                log.warning("controls: no merge beside %s: %s", run_name(config), refusal)
                continue
            if _identity(control) not in known:
                known.add(_identity(control))
                yield wanted, control
        alone = words if not config.controls else (*_without(words, "controls"), "controls=[]")
        yield alone, cast(RunConfig, dataclasses.replace(cast(Any, config), controls=()))


def control_words(words: Words, config: RunConfig, arm: str) -> Words | None:
    """Overrides of a point's control; None where there is no such: nothing trained has no constant arm."""
    if arm != "constant":
        return (*_without(words, *UNTRAINED), f"anneal={arm}", "anneal.steps=0", "controls=[]")
    if not config.anneal.steps:
        return None
    constant = _constant(config.anneal)
    changed = {f"anneal.{key}": v for key, v in constant.items() if getattr(config.anneal, key) != v}
    set_ = (f"{key}={'null' if value is None else value}" for key, value in changed.items())
    return (*_without(words, "controls", *changed), *set_, "controls=[]")


def _without(words: Words, *keys: str) -> Words:
    """The overrides that set none of the keys, nor what is below them."""
    return tuple(w for w in words if not any(f"{_key(w)}.".startswith(f"{key}.") for key in keys))


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _identity(config: RunConfig) -> tuple[str, str]:
    return config.name, run_key(config)
