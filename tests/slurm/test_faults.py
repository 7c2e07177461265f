"""What goes wrong with runs, and what then holds: no other run is lost, and the table and Slurm tell the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from typing import Any

import pytest

from sweep.domain.errors import Refusal
from sweep.launch.cluster import last_states, queue
from sweep.sweeps.slurm import cancel_jobs
from tests.slurm.commands import LONG, Sweep, finish, running, starts, until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_what_fails_takes_nothing_with_it_and_the_same_command_does_the_rest(sweep: Sweep) -> None:
    runs = sweep.launch(["", "raise", "kill", "exit", ""], workers=2)
    found = finish(runs)
    assert [run.state for run in found] == ["finished", "failed", "interrupted", "interrupted", "finished"]
    assert "this run's own fault" in found[1].detail
    assert len({run.job for run in found}) == 2, "the other worker has done what the killed one left"
    assert set(runs.failures()) == {1, 2, 3}
    states = last_states([run.job for run in found[1:4] if run.job])
    assert set(states.values()) == {"FAILED"}, "Slurm says FAILED of what failed"
    sweep.flag.unlink()
    again = sweep.launch(["", "raise", "kill", "exit", ""], workers=2)
    assert [run.state for run in finish(again)] == ["finished"] * 5
    assert [len(starts(folder)) for folder in (run.folder for run in again.runs)] == [1, 2, 2, 2, 1], (
        "what was done is not done again"
    )


def test_a_failing_run_does_not_touch_the_others_of_its_worker(sweep: Sweep) -> None:
    found = finish(sweep.launch(["", "raise", "exit", ""], workers=1))
    assert [run.state for run in found] == ["finished", "failed", "interrupted", "finished"]
    assert len({run.job for run in found}) == 1
    assert last_states([found[0].job or ""]) == {found[0].job: "FAILED"}


def test_ctrl_c_cancels_where_that_was_asked_for(sweep: Sweep) -> None:
    runs = sweep.launch(["", ""], updates=LONG)
    until(runs, running)
    threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        runs.wait(poll_s=0.5, cancel=True)
    until(runs, lambda found: all(run.state == "interrupted" for run in found))
    assert all("CANCELLED" in failure for failure in runs.failures().values())
    assert [run.state for run in finish(sweep.launch(["", ""], updates=LONG))] == ["finished"] * 2


def test_a_job_that_slurm_holds_back_is_named_with_what_frees_it(sweep: Sweep) -> None:
    runs = sweep.launch([""], updates=LONG)
    [found] = until(runs, running)
    subprocess.run(["scontrol", "requeuehold", found.job], check=True)
    [held] = until(runs, lambda now: now[0].state == "held")
    assert f"scontrol release {found.job}" in held.detail
    [left] = finish(runs)
    assert left.state == "held", "nobody waits for ever"
    assert f"scontrol release {found.job}" in runs.failures()[0]
    assert sweep.launch([""]).todo() == [], "it is still the job's"
    assert cancel_jobs([left]) == 1


def test_more_workers_than_an_array_takes_are_several_arrays_that_share_the_parallelism(sweep: Sweep) -> None:
    runs = sweep.launch([""] * 13, additional_parameters={"hold": True}, array_parallelism=5, workers=13)
    found = runs.look()
    jobs = {job for run in found for job in run.jobs}
    assert Counter(job.split("_")[0] for job in jobs).most_common()[0][1] == 11
    assert len(jobs) == 13, "any of them may do any of the runs"
    assert {run.state for run in found} == {"held"}
    limits = subprocess.check_output(["squeue", "--me", "--noheader", "--format=%i"], text=True).split()
    assert {word.partition("%")[2] for word in limits} == {"3]", "2]"}
    assert cancel_jobs(found) == 13


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"timeout_min": 1}, "hydra.launcher.timeout_min=1: .*at least 2"),
        ({"teardown": ["true"], "use_srun": False}, "hydra.launcher.teardown needs hydra.launcher.use_srun=true"),
        ({"partition": "hihg"}, "hydra.launcher.partition=hihg: 'hihg' is not one of high, main .did you mean high"),
        ({"partition": "high", "timeout_min": 100}, "hydra.launcher.timeout_min=100: partition high allows at most 60"),
        ({"mem_gb": 64}, "hydra.launcher.mem_gb=64: no node of this cluster has more than 7.8"),
        ({"constraint": "a100"}, "hydra.launcher: sbatch would not take such a job: .*[Ff]eature"),
    ],
)
def test_what_the_cluster_cannot_run_is_refused_before_anything_is_submitted(
    sweep: Sweep, changed: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Refusal, match=complaint):
        sweep.launch([""], **changed)
    assert not queue()
    assert not (sweep.home / ".slurm" / "submitted.jsonl").exists()
