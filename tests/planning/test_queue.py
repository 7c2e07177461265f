"""The order in which a sweep's runs are taken, what each shares with an earlier one, and how many go side by side."""

from __future__ import annotations

import dataclasses

import pytest

from sweep.config import RunConfig
from sweep.planning.queue import Turn, turns, workers_that_fit
from tests.composing import composed


def test_runs_of_one_anneal_or_trunk_follow_each_other_and_say_so() -> None:
    configs = [
        composed("anneal.steps=10", "anneal.hold_steps=4"),
        composed("anneal.steps=20"),
        composed("anneal.steps=20", "tasks=loss"),
        composed("anneal.steps=12", "anneal.hold_steps=4"),
        composed("anneal=none"),
    ]
    assert turns(configs) == {4: Turn(1, None), 1: Turn(2, None), 2: Turn(3, 2), 3: Turn(4, None), 0: Turn(5, 4)}
    assert turns(configs, done=(1, 4)) == {2: Turn(1, None), 3: Turn(2, None), 0: Turn(3, 2)}


def sized(mem_gb: float, threads: int = 1) -> RunConfig:
    config = composed("anneal.steps=10", f"compute.threads={threads}")
    resources = config.model.resources
    assert resources is not None
    model = dataclasses.replace(config.model, resources=dataclasses.replace(resources, mem_gb=mem_gb))
    return dataclasses.replace(config, model=model)


@pytest.mark.parametrize(
    ("runs", "workers"),
    [
        ([sized(1)], 8),
        ([sized(1), sized(8)], 4),
        ([sized(8), sized(1)], 4),
        ([sized(1), sized(1, threads=4)], 2),
        ([sized(1, threads=4), sized(20)], 1),
        ([sized(100), sized(1, threads=64)], 1),
    ],
)
def test_the_largest_run_decides_how_many_go_side_by_side(runs: list[RunConfig], workers: int) -> None:
    assert workers_that_fit(runs, cores=8, memory_gb=32, gpus=0) == workers
    assert workers_that_fit(runs, cores=8, memory_gb=32, gpus=3) == 3
