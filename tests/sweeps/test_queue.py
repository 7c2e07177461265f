"""What a worker takes next: what nobody holds, nobody has tried, and nobody is just making."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from sweep.planning.queue import taking_order
from sweep.sweeps.queue import Left, Queue, QueuedRun
from sweep.system.lease import run_lease
from sweep.tracking import Journal
from tests.config.test_config import composed


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """Two anneals on two sets of tasks each, and a constant control of two lengths."""
    words = [("anneal.steps=20", "tasks=core8"), ("anneal.steps=10", "tasks=core8"), ("anneal.steps=20", "tasks=loss"),
             ("anneal.steps=10", "tasks=loss"), ("anneal=constant", "anneal.steps=5"),
             ("anneal=constant", "anneal.steps=9")]  # fmt: skip
    configs = [composed(*of) for of in words]
    runs = [
        QueuedRun(
            point=i,
            config=configs[i],
            key=f"k{i}",
            folder=tmp_path / " ".join(words[i]),
            overrides=words[i],
            command="",
        )
        for i in taking_order(configs)
    ]
    return Queue(runs=tuple(runs), began=time.time())


def named(queue: Queue, taken: int) -> str:
    return queue.runs[taken].folder.name


def ended(run: QueuedRun, status: str, *, job: str | None = None, key: str | None = None) -> None:
    with Journal(run.folder) as journal:
        journal.write("attempt", key=run.key, job=job)
        if status:
            result = {"key": key or run.key, "final_state": "s", "params": {}} if status == "finished" else None
            journal.write("outcome", status=status, error="why", result=result)


def test_several_workers_share_out_what_needs_nothing_that_another_makes(queue: Queue) -> None:
    workers = [Left(queue) for _ in range(6)]
    taken = [worker.take() for worker in workers]
    names = [named(queue, found[0]) for found in taken if found]
    assert names[:3] == ["anneal=constant anneal.steps=5", "anneal.steps=20 tasks=core8", "anneal.steps=10 tasks=core8"]
    assert len(set(names)) == 6, "where nothing else is left, a worker takes what it has to wait for"
    assert Left(queue).take() is None
    for found in taken:
        assert found
        found[1].release()


def test_runs_that_differ_in_their_tasks_alone_follow_each_other(queue: Queue) -> None:
    left, names = Left(queue), []
    while (found := left.take()) is not None:
        names.append(named(queue, found[0]))
        ended(queue.runs[found[0]], "finished")
        found[1].release()
    assert names == ["anneal=constant anneal.steps=5", "anneal=constant anneal.steps=9",
                     "anneal.steps=20 tasks=core8", "anneal.steps=20 tasks=loss",
                     "anneal.steps=10 tasks=core8", "anneal.steps=10 tasks=loss"]  # fmt: skip


@pytest.mark.parametrize("status", ["failed", "interrupted", "", "finished"])
def test_what_was_tried_since_the_queue_began_is_left_alone_and_tried_by_the_next_queue(
    queue: Queue, status: str
) -> None:
    for run in queue.runs[1:]:
        ended(run, "finished")
    ended(queue.runs[0], status)
    assert Left(queue).take() is None
    later = dataclasses.replace(queue, began=time.time())
    taken = Left(later).take()
    assert (taken is None) == (status == "finished")
    if taken is not None:
        taken[1].release()


def test_a_job_that_is_started_again_goes_on_with_its_own_run_unless_it_failed(queue: Queue) -> None:
    for number, run in enumerate(queue.runs):
        ended(run, ["interrupted", "failed", ""][number % 3], job=f"12_{number // 3} restart 0")
    left, found = Left(queue, job="12_0"), []
    while (taken := left.take()) is not None:
        found.append(taken[0])
        ended(queue.runs[taken[0]], "finished")
        taken[1].release()
    assert found == [0, 2]
    assert Left(queue, job="12_7").take() is None


def test_a_finished_run_of_another_configuration_is_not_this_run(queue: Queue) -> None:
    later = dataclasses.replace(queue, began=time.time() + 60)
    ended(queue.runs[0], "finished", key="other")
    found = Left(later).take()
    assert found is not None
    assert found[0] == 0
    found[1].release()


def test_a_held_run_counts_as_running_until_its_lease_is_given_back(queue: Queue) -> None:
    lease, left = run_lease(queue.runs[2].folder), Left(queue)
    lease.take()
    assert left.look() == ([2], True)
    lease.release()
    assert left.look() == ([], True)
    for run in queue.runs:
        ended(run, "finished")
    assert (left.look(), len(left)) == (([], False), 0)
