"""Controls of a sweep: they separate the effect of an anneal from that of more data, or of an average (pure)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sweep.config import Anneal, RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.commands import replaced
from sweep.planning.names import folder_name, run_key, run_name

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
"""The choices of an anneal that its matched control, at the constant current LR, has instead."""
UNTRAINED = ("anneal", "seed", "controls")
"""Choices that a run without training doesn't have."""
Overrides = tuple[str, ...]
"""The overrides of one point."""


class Point(NamedTuple):
    """One run of a sweep, a point of its design or a control."""

    overrides: Overrides
    config: RunConfig
    key: str
    """Its run key."""

    @property
    def place(self) -> str:
        """Its sweep's folder, and its own in that."""
        return f"{self.config.name}/{folder_name(run_name(self.config), self.key)}"


def constant_of(config: RunConfig) -> RunConfig:
    """The matched control: the same updates on the same data at the constant current LR."""
    anneal = dataclasses.replace(config.anneal, **_constant(config.anneal))
    return dataclasses.replace(config, anneal=anneal, controls=())


def _constant(anneal: Anneal) -> dict[str, Any]:
    """What the matched control has instead; a fresh optimizer has no current LR, so the anneal's own warmup stays."""
    kept = () if anneal.optimizer == "keep" else ("peak_lr", "peak_scale", "warmup_steps")
    return {key: value for key, value in CONSTANT.items() if key not in kept}


def expanded(
    points: Sequence[Overrides], typed: Callable[[Overrides], RunConfig], *, known: set[tuple[str, str]]
) -> Iterator[Point]:
    """The points, and before each the controls that it asks for and that `known` lacks.

    The overrides of each make exactly this run, also alone. `typed` composes and validates them. `known` collects the
    (sweep, run key) of all runs. A warning tells of a merge that is left out because the trajectory is too short; any
    other control that can't be run is a Refusal.
    """
    configs = [typed(overrides) for overrides in points]
    keys = [run_key(config) for config in configs]
    known |= {(config.name, key) for config, key in zip(configs, keys, strict=True)}
    tried: set[Overrides] = set()
    for overrides, config, key in zip(points, configs, keys, strict=True):
        for arm in config.controls:
            changed = control_overrides(overrides, config, arm)
            if changed is None or changed in tried:
                continue
            tried.add(changed)
            try:
                control = typed(changed)
            except Refusal as refusal:
                if arm != "merge":
                    raise
                log.warning("controls: no merge beside %s: %s", run_name(config), refusal)
                continue
            identity = control.name, run_key(control)
            if identity not in known:
                known.add(identity)
                yield Point(changed, control, identity[1])
        alone = overrides if not config.controls else tuple(replaced(overrides, ["controls"], ["controls=[]"]))
        yield Point(alone, dataclasses.replace(config, controls=()) if config.controls else config, key)


def control_overrides(overrides: Overrides, config: RunConfig, arm: str) -> Overrides | None:
    """Overrides of a point's control; None for the constant control of a point that trains nothing."""
    if arm != "constant":
        return tuple(replaced(overrides, UNTRAINED, [f"anneal={arm}", "anneal.steps=0", "controls=[]"]))
    if not config.anneal.steps:
        return None
    constant = _constant(config.anneal)
    changed = {f"anneal.{key}": v for key, v in constant.items() if getattr(config.anneal, key) != v}
    new = (f"{key}={'null' if value is None else value}" for key, value in changed.items())
    return tuple(replaced(overrides, ["controls", *changed], [*new, "controls=[]"]))
