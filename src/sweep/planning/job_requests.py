"""What runs ask of a cluster, and how many jobs do them: arithmetic on choices (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.plan import preparation_s

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
class JobGroup:
    """Jobs that share a queue of runs, each job a worker."""

    request: JobRequest
    runs: tuple[int, ...]
    """Indices into all runs."""
    workers: int


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


def job_groups(
    configs: Sequence[RunConfig], chosen: JobRequest, *, workers: int | None, at_a_time: int
) -> list[JobGroup]:
    """All runs, those that need the same of a node together, with `workers` jobs in all, but at least one a group.

    Without a number each run has a worker, but at most `at_a_time`; then runs of another length are another group, so
    that short ones ask for a short time. Refusal where neither the model nor the user says how long a run takes.
    """
    groups: dict[object, list[int]] = {}
    for i, config in enumerate(configs):
        length = None if workers else _request([config], chosen, workers=1).timeout_min
        groups.setdefault((_node(config), length), []).append(i)
    shares = {key: (workers or at_a_time) * len(runs) / len(configs) for key, runs in groups.items()}
    numbers = {key: min(len(runs), max(1, round(shares[key]))) for key, runs in groups.items()}
    return [
        JobGroup(
            request=_request([configs[i] for i in runs], chosen, workers=numbers[key]),
            runs=tuple(runs),
            workers=numbers[key],
        )
        for key, runs in groups.items()
    ]


def _node(config: RunConfig) -> tuple[object, ...]:
    """What a run needs of a node; the runs of a job need the same."""
    resources = config.model.resources
    node = resources and (resources.nodes, resources.gpus_per_node, resources.mem_gb)
    return node, config.compute.threads, config.compute.device


def _request(runs: Sequence[RunConfig], chosen: JobRequest, *, workers: int) -> JobRequest:
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
        timeout_min=chosen.timeout_min or _time_limit_min(runs, workers=workers),
    )


def _time_limit_min(runs: Sequence[RunConfig], *, workers: int) -> int:
    """Time limit of a job that does its share of these runs; the embedded checkpoint is made once, to the furthest
    step.
    """
    minutes = [run_minutes(run) for run in runs]
    stated = [each for each in minutes if each is not None]
    if len(stated) < len(minutes):
        raise Refusal(
            "hydra.launcher.timeout_min=null takes the time limit from model.resources, and "
            f"model={runs[0].model.name} states none: give hydra.launcher.timeout_min, in minutes"
        )
    furthest = max(runs, key=lambda run: run.checkpoint.step or 0)
    pretraining_s = 0.0
    if furthest.model.source == "embedded":
        pretraining_s = preparation_s(furthest.model, furthest.checkpoint.step or 0)
    needed = START_MIN + SLACK * (max([*stated, sum(stated) / workers]) + pretraining_s / 60)
    return next((limit for limit in TIME_LIMITS_MIN if limit >= needed), 1440 * math.ceil(needed / 1440))
