"""The order in which a sweep's runs are taken, and how many are done at a time (pure)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sweep.config import RunConfig
from sweep.planning.plan import launch_order
from sweep.planning.work_keys import SCHEDULE, WorkKeys


def taking_order(configs: Sequence[RunConfig]) -> list[int]:
    """Indices of the runs in the order in which workers take them.

    Runs that train nothing come first, then constant controls from short to long, then anneals from long to short.
    Runs of one checkpoint are neighbours, and runs that differ in their tasks alone follow each other.
    """
    return sorted(range(len(configs)), key=lambda i: (launch_order(configs[i]), _same_work(configs[i])))


class Turn(NamedTuple):
    """A run's place in the queue."""

    number: int
    """From 1."""
    shares: int | None
    """The first turn before it whose run makes an anneal, a trunk or an average that this one needs too."""


def turns(configs: Sequence[RunConfig], done: Collection[int] = ()) -> dict[int, Turn]:
    """Index -> turn of each run that is not done; `done` has the indices of the others."""
    keys, left = WorkKeys(), [i for i in range(len(configs)) if i not in done]
    first: dict[str, int] = {}
    queue = {}
    for number, place in enumerate(taking_order([configs[i] for i in left]), 1):
        work = keys.shared(configs[left[place]])
        queue[left[place]] = Turn(number, min((first[name] for name in work if name in first), default=None))
        for name in work:
            first.setdefault(name, number)
    return queue


def _same_work(config: RunConfig) -> tuple[str, str, int, int, str, str]:
    anneal, checkpoint = config.anneal, config.checkpoint
    place = (config.model.name, checkpoint.path or "", checkpoint.step or 0, config.seed)
    return *place, repr([getattr(anneal, name) for name in SCHEDULE[1:]]), config.tasks.name


def workers_that_fit(configs: Sequence[RunConfig], *, cores: int, memory_gb: float, gpus: int) -> int:
    """How many runs this machine can do side by side, even if they are the largest of these; at least one.

    On GPUs one on each; else as many as the cores have threads for, and the memory room for as `model.resources` say.
    """
    if gpus and any(config.compute.device != "cpu" for config in configs):
        return gpus
    threads = max((config.compute.threads for config in configs), default=1)
    stated = [config.model.resources.mem_gb for config in configs if config.model.resources is not None]
    by_memory = int(memory_gb // max(stated)) if stated else cores
    return max(1, min(cores // threads, by_memory))
