"""What runs ask of a cluster, and which of them share a job: arithmetic on choices (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.plan import launch_order, preparation_s

STEPS_MIN = (5, 10, 15, 30, 60, 120, 240, 480, 720, 1440)
"""Time limits asked for, so that runs of about the same length are one array; above, whole days."""
SLACK, START_MIN = 2.0, 5.0
"""A time limit is so many times what is stated of the model, and so many minutes for imports and waiting."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one job asks for; None: it is left to Slurm."""

    nodes: int
    tasks_per_node: int
    """Processes that share a run: one a GPU."""
    gpus_per_node: int | None
    cpus_per_task: int
    mem_gb: float | None
    timeout_min: int


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What the user asks for instead of what follows from the model; None: nothing."""

    nodes: int | None
    tasks_per_node: int | None
    gpus_per_node: int | None
    cpus_per_task: int | None
    mem_gb: float | None
    timeout_min: int | None


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Runs of one job, by their place among all, in the order in which they are done."""

    request: Request
    runs: tuple[int, ...]


def minutes(config: RunConfig, *, updates: int | None = None, scorings: int = 2) -> float | None:
    """What this run should take, by what is stated of its model; None: nothing is. `updates` None: all of its own."""
    resources, model, anneal = config.model.resources, config.model, config.anneal
    if resources is None:
        return None
    larger = (anneal.batch_size or model.batch_size or 1) * (anneal.sequence_length or model.sequence_length or 1)
    scale = larger / ((model.batch_size or 1) * (model.sequence_length or 1))
    scored = scorings * max(1, len(config.tasks.suites)) * resources.minutes_per_task_set
    return (anneal.steps if updates is None else updates) / 1000 * scale * resources.minutes_per_1000_updates + scored


def packed(configs: Sequence[RunConfig], chosen: Chosen, *, pack: int | str, pack_min: float) -> list[Pack]:
    """All runs, `pack` to a job, or for "auto" as many as take `pack_min` minutes; equal requests are neighbours.

    Runs of one checkpoint and one set of tasks stay together, in the order in which they share most. Refusal where
    neither the model nor the user says how long a run takes.
    """
    order = sorted(range(len(configs)), key=lambda i: (_shared(configs[i]), launch_order(configs[i])))
    packs: list[list[int]] = []
    for i in order:
        if packs and _fits([configs[j] for j in packs[-1]], configs[i], pack=pack, pack_min=pack_min):
            packs[-1].append(i)
        else:
            packs.append([i])
    made = [Pack(request=_request([configs[i] for i in runs], chosen), runs=tuple(runs)) for runs in packs]
    first = {request: i for i, request in reversed(list(enumerate(pack.request for pack in made)))}
    return sorted(made, key=lambda pack: first[pack.request])


def _shared(config: RunConfig) -> tuple[str, str, int, str, int]:
    """What runs of a job have in common: the node, then checkpoint and tasks."""
    return (config.model.name, config.checkpoint.path or "", config.checkpoint.step or 0, config.tasks.name,
            config.compute.threads)  # fmt: skip


def _fits(together: Sequence[RunConfig], one: RunConfig, *, pack: int | str, pack_min: float) -> bool:
    """Whether one more run goes into a job."""
    if _asked(together[0]) != _asked(one):
        return False
    if pack != "auto":
        return len(together) < int(pack)
    total = [minutes(config) for config in (*together, one)]
    return None not in total and sum(t for t in total if t) <= pack_min


def _asked(config: RunConfig) -> tuple[object, ...]:
    resources = config.model.resources
    node = resources and (resources.nodes, resources.gpus_per_node, resources.mem_gb)
    return node, config.compute.threads, config.compute.device


def _request(runs: Sequence[RunConfig], chosen: Chosen) -> Request:
    first = runs[0]
    resources, gpus = first.model.resources, chosen.gpus_per_node
    if gpus is None and resources is not None and first.compute.device != "cpu":
        gpus = resources.gpus_per_node or None
    return Request(
        nodes=chosen.nodes or (resources.nodes if resources else 1),
        tasks_per_node=chosen.tasks_per_node or gpus or 1,
        gpus_per_node=gpus,
        cpus_per_task=chosen.cpus_per_task or first.compute.threads,
        mem_gb=chosen.mem_gb or (resources.mem_gb if resources else None),
        timeout_min=chosen.timeout_min or _limit(runs),
    )


def _limit(runs: Sequence[RunConfig]) -> int:
    stated = [minutes(run) for run in runs]
    if None in stated:
        raise Refusal(
            "hydra.launcher.timeout_min=null takes the time limit from model.resources, and "
            f"model={runs[0].model.name} states none: give hydra.launcher.timeout_min, in minutes"
        )
    furthest = max(runs, key=lambda run: run.checkpoint.step or 0)
    made = preparation_s(furthest.model, furthest.checkpoint.step or 0) if furthest.model.source == "embedded" else 0.0
    needed = START_MIN + SLACK * (sum(t for t in stated if t) + made / 60)
    return next((step for step in STEPS_MIN if step >= needed), 1440 * math.ceil(needed / 1440))
