"""What a sweep will do and cost in all, and what its points share: sums over forecasts (pure)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.config import RunConfig, tree
from sweep.domain.digests import digest
from sweep.planning.job_packing import minutes
from sweep.planning.plan import launch_order
from sweep.planning.run_cost import Forecast, pretraining_flops

SCHEDULE = ("name", "steps", "shape", "peak_lr", "peak_scale", "final_fraction", "hold_steps", "warmup_steps")
KEPT_AS = ("save_interval", "keep", "merge")
"""Of an anneal's choices those that its learning rates tell, and those that decide no update's numbers."""


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Of the points that are not done; None: a model doesn't state what it takes."""

    points: int
    """All of them."""
    done: int
    updates: int
    shared_updates: int
    """Of `updates`, those that another point's state has behind it, where one point runs after another."""
    before: int
    """Scorings of checkpoints as they are: one for all points that start there."""
    after: int
    """Scorings of what was made of them."""
    tokens: int | None
    """Of the updates that are not shared, and so on."""
    flops: float | None
    share: float | None
    """`flops` over those of pretraining each model up to the furthest of its checkpoints here."""
    core_hours: float | None
    """By `model.resources`, of runs on CPUs; those on GPUs are the others'."""
    gpu_hours: float | None


def bill(found: Sequence[Forecast], done: Collection[int] = ()) -> Bill:
    """The bill of these points, `done` being the places of those that are; what they left is shared too."""
    order = sorted(range(len(found)), key=lambda i: (i not in done, launch_order(found[i].config)))
    left = _left([found[i] for i in order])
    rest = [(found[i], n) for i, n in zip(order, left, strict=True) if i not in done]
    scored = {_start(found[i].config): None for i in done}
    ends: dict[tuple[str, bytes], None] = {}
    hours: dict[bool, float | None] = {False: 0.0, True: 0.0}
    for one, n in rest:
        new = [_new(scored, _start(one.config)), _new(ends, _end(one))]
        resources = one.config.model.resources
        spent = minutes(one.config, updates=n, scorings=sum(new))
        on_gpus = bool(resources and resources.gpus_per_node)
        devices = resources.nodes * (resources.gpus_per_node or one.config.compute.threads) if resources else 1
        known = hours[on_gpus]
        hours[on_gpus] = None if spent is None or known is None else known + spent * devices / 60
    flops = _sum(_part(one.flops, one, n) for one, n in rest)
    pretraining = _sum(_pretraining(found))
    return Bill(
        points=len(found),
        done=len(done),
        updates=sum(len(one.learning_rates) for one, _ in rest),
        shared_updates=sum(len(one.learning_rates) - n for one, n in rest),
        before=len(scored) - len({_start(found[i].config) for i in done}),
        after=len(ends),
        tokens=None if (tokens := _sum(_part(one.tokens, one, n) for one, n in rest)) is None else round(tokens),
        flops=flops,
        share=flops / pretraining if flops is not None and pretraining else None,
        core_hours=hours[False],
        gpu_hours=hours[True],
    )


def _left(found: Sequence[Forecast]) -> list[int]:
    """Of each, in the order in which they run, the updates that no kept state of an earlier one has behind it."""
    kept: dict[str, dict[int, set[bytes]]] = {}
    left = []
    for one in found:
        rates, anneal = one.learning_rates, one.config.anneal
        mine = kept.setdefault(_base(one.config), {})
        behind = (n for n, states in mine.items() if n <= len(rates) and rates[:n].tobytes() in states)
        left.append(len(rates) - max(behind, default=0))
        trunk = anneal.warmup_steps + anneal.hold_steps if anneal.hold_steps else 0
        for n in {trunk, len(rates) if anneal.keep else 0} - {0}:
            mine.setdefault(n, set()).add(rates[:n].tobytes())
    return left


def _start(config: RunConfig) -> str:
    """The checkpoint and what it is scored on."""
    scored = (tree(config.tasks), tree(config.data)["heldout"])
    return digest("start", _model(config), tree(config.checkpoint), *scored)


def _model(config: RunConfig) -> dict[str, Any]:
    """All that says which model it is; a name is that of several recipes of pretraining."""
    return {key: value for key, value in tree(config.model).items() if key != "resources"}


def _base(config: RunConfig) -> str:
    """All that decides an update's numbers besides the learning rates."""
    chosen = {key: value for key, value in tree(config.anneal).items() if key not in SCHEDULE + KEPT_AS}
    where = (_model(config), tree(config.checkpoint), tree(config.data), config.seed, tree(config.compute))
    return digest("base", chosen, *where)


def _end(one: Forecast) -> tuple[str, bytes] | None:
    """What is scored after; None where nothing was made of the checkpoint."""
    merge = one.config.anneal.merge
    if not len(one.learning_rates) and merge is None:
        return None
    made = digest("merge", tree(merge)) if merge else _base(one.config)
    return f"{_start(one.config)} {made}", one.learning_rates.tobytes()


def _new(known: dict[Any, None], one: Any) -> bool:
    """Whether it is something not yet known; it is then."""
    if one is None or one in known:
        return False
    known[one] = None
    return True


def _part(whole: float | None, one: Forecast, updates: int) -> float | None:
    """Of a run's whole, what falls to so many of its updates."""
    return None if whole is None else whole * updates / max(1, len(one.learning_rates))


def _pretraining(found: Sequence[Forecast]) -> Iterable[float | None]:
    furthest: dict[str, Forecast] = {}
    for one in found:
        model = digest("model", _model(one.config))
        known = furthest.setdefault(model, one)
        if (one.tokens_seen or 0) > (known.tokens_seen or 0):
            furthest[model] = one
    return (pretraining_flops(one.config.model, one.tokens_seen) for one in furthest.values())


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
