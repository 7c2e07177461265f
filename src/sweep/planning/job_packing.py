"""What runs ask of a cluster, and which runs share a job: arithmetic on choices (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.plan import launch_order, preparation_s

TIME_LIMITS_MIN = (5, 10, 15, 30, 60, 120, 240, 480, 720, 1440)
"""Time limits are rounded up to these, so that runs of about the same length are one array; longer ones to whole days.
"""
SLACK, START_MIN = 2.0, 5.0
"""A time limit is SLACK times the minutes that the model states, and START_MIN for imports and waiting."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a job asks for. None: it follows from the model, and where the model states nothing Slurm decides."""

    nodes: int | None
    tasks_per_node: int | None
    """Processes that share a run: one per GPU."""
    gpus_per_node: int | None
    cpus_per_task: int | None
    mem_gb: float | None
    timeout_min: int | None


@dataclass(frozen=True, kw_only=True)
class PackedJob:
    """The runs of one job, as indices into all runs, in the order in which they are done."""

    request: JobRequest
    runs: tuple[int, ...]


def run_minutes(config: RunConfig, *, updates: int | None = None, scorings: int = 2) -> float | None:
    """Estimated minutes of a run, from `model.resources`; None if the model states none.

    `updates` are those that it has to do itself; None: all of its anneal.
    """
    resources, model, anneal = config.model.resources, config.model, config.anneal
    if resources is None:
        return None
    update_tokens = (anneal.batch_size or model.batch_size or 1) * (
        anneal.sequence_length or model.sequence_length or 1
    )
    scale = update_tokens / ((model.batch_size or 1) * (model.sequence_length or 1))
    training = (anneal.steps if updates is None else updates) / 1000 * scale * resources.minutes_per_1000_updates
    return training + scorings * max(1, len(config.tasks.suites)) * resources.minutes_per_task_set


def packed(configs: Sequence[RunConfig], chosen: JobRequest, *, pack: int | str, pack_min: float) -> list[PackedJob]:
    """All runs, `pack` to a job, or for "auto" as many as take `pack_min` minutes; equal requests are neighbours.

    Runs of one checkpoint and one set of tasks stay together, in the order in which they share most. Refusal where
    neither the model nor the user says how long a run takes.
    """
    order = sorted(range(len(configs)), key=lambda i: (_sharing_order(configs[i]), launch_order(configs[i])))
    groups: list[list[int]] = []
    for i in order:
        if groups and _fits([configs[j] for j in groups[-1]], configs[i], pack=pack, pack_min=pack_min):
            groups[-1].append(i)
        else:
            groups.append([i])
    jobs = [PackedJob(request=_request([configs[i] for i in runs], chosen), runs=tuple(runs)) for runs in groups]
    requests = [job.request for job in jobs]
    return sorted(jobs, key=lambda job: requests.index(job.request))


def _sharing_order(config: RunConfig) -> tuple[str, str, int, str, int]:
    """Sort key: runs of one model, checkpoint and set of tasks are neighbours."""
    checkpoint = config.checkpoint
    return config.model.name, checkpoint.path or "", checkpoint.step or 0, config.tasks.name, config.compute.threads


def _fits(runs: Sequence[RunConfig], another: RunConfig, *, pack: int | str, pack_min: float) -> bool:
    """Whether a job of these runs takes another one."""
    if _node(runs[0]) != _node(another):
        return False
    if pack != "auto":
        return len(runs) < int(pack)
    total = [run_minutes(config) for config in (*runs, another)]
    return None not in total and sum(t for t in total if t) <= pack_min


def _node(config: RunConfig) -> tuple[object, ...]:
    """What a run needs of a node; the runs of a job need the same."""
    resources = config.model.resources
    node = resources and (resources.nodes, resources.gpus_per_node, resources.mem_gb)
    return node, config.compute.threads, config.compute.device


def _request(runs: Sequence[RunConfig], chosen: JobRequest) -> JobRequest:
    """What the user chose, and else what follows from the model."""
    first = runs[0]
    resources, gpus = first.model.resources, chosen.gpus_per_node
    if gpus is None and resources is not None and first.compute.device != "cpu":
        gpus = resources.gpus_per_node or None
    return JobRequest(
        nodes=chosen.nodes or (resources.nodes if resources else 1),
        tasks_per_node=chosen.tasks_per_node or gpus or 1,
        gpus_per_node=gpus,
        cpus_per_task=chosen.cpus_per_task or first.compute.threads,
        mem_gb=chosen.mem_gb or (resources.mem_gb if resources else None),
        timeout_min=chosen.timeout_min or _time_limit_min(runs),
    )


def _time_limit_min(runs: Sequence[RunConfig]) -> int:
    """Time limit of a job of these runs; the embedded checkpoint is made once, up to the furthest step."""
    stated = [run_minutes(run) for run in runs]
    if None in stated:
        raise Refusal(
            "hydra.launcher.timeout_min=null takes the time limit from model.resources, and "
            f"model={runs[0].model.name} states none: give hydra.launcher.timeout_min, in minutes"
        )
    furthest = max(runs, key=lambda run: run.checkpoint.step or 0)
    pretraining_s = 0.0
    if furthest.model.source == "embedded":
        pretraining_s = preparation_s(furthest.model, furthest.checkpoint.step or 0)
    needed = START_MIN + SLACK * (sum(t for t in stated if t) + pretraining_s / 60)
    return next((limit for limit in TIME_LIMITS_MIN if limit >= needed), 1440 * math.ceil(needed / 1440))
