"""How many jobs do the runs of a sweep, and what each job asks for."""

from __future__ import annotations

import inspect

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from submitit.slurm.slurm import _make_sbatch_string

from sweep.commands.main import CONF
from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.launch.cluster import HELD, Queued, minutes
from sweep.launch.slurm import _shares
from sweep.planning.job_requests import JobGroup, JobRequest, job_groups
from tests.composing import composed

NOTHING = JobRequest(
    nodes=None, tasks_per_node=None, gpus_per_node=None, cpus_per_task=None, mem_gb=None, timeout_min=None
)  # fmt: skip
SPELLED = {"job_name": "name", "time": "timeout_min", "ntasks_per_node": "tasks_per_node", "mem": "mem_gb"}
"""sbatch's names -> those that Submitit's executors share."""
NOT_OURS = {"command", "folder", "map_count", "num_gpus"}


def test_every_parameter_of_sbatch_that_submitit_knows_can_be_set() -> None:
    known = {SPELLED.get(name, name) for name in inspect.signature(_make_sbatch_string).parameters} - NOT_OURS
    assert known <= yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text()).keys()


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "model").glob("*.yaml")))
def test_every_model_but_your_own_states_what_a_run_asks_for(option: str) -> None:
    stated = yaml.safe_load((CONF / "model" / f"{option}.yaml").read_text())
    assert ("resources" in stated) == (option not in ("hub", "local"))


def groups(configs: list[RunConfig], workers: int | None = None, *, at_a_time: int = 256) -> list[JobGroup]:
    return job_groups(configs, NOTHING, workers=workers, at_a_time=at_a_time)


def test_each_run_has_a_worker_as_far_as_so_many_may_run_at_a_time() -> None:
    configs = [composed(f"seed={seed}") for seed in range(12)]
    assert [(group.workers, len(group.runs)) for group in groups(configs)] == [(12, 12)]
    assert [(group.workers, len(group.runs)) for group in groups(configs, at_a_time=5)] == [(5, 12)]
    assert [(group.workers, len(group.runs)) for group in groups(configs, 2, at_a_time=5)] == [(2, 12)]


def test_runs_that_need_different_nodes_have_workers_of_their_own_in_proportion() -> None:
    configs = [composed("compute.threads=2"), *(composed(f"seed={seed}") for seed in range(9))]
    found = groups(configs, 5)
    assert [(group.request.cpus_per_task, group.runs, group.workers) for group in found] == [
        (2, (0,), 1),
        (1, tuple(range(1, 10)), 4),
    ]


def test_a_longer_anneal_asks_for_a_longer_time_limit_and_the_users_word_counts() -> None:
    short, long = composed("anneal.steps=250"), composed("anneal.steps=100000")
    times = [group.request.timeout_min for group in groups([short, long])]
    assert sorted(t for t in times if t) == [30, 240], "minutes of updates, scoring and pretraining, twice, rounded up"
    assert [group.request.timeout_min for group in groups([short, long], 2)] == [240], "whichever it takes"
    assert groups([short] * 60, 2)[0].request.timeout_min == 480, "half of 60 times 4.2 minutes, twice"
    mine = JobRequest(nodes=2, tasks_per_node=4, gpus_per_node=4, cpus_per_task=8, mem_gb=64, timeout_min=33)
    [group] = job_groups([short, long], mine, workers=None, at_a_time=9)
    assert group.request == mine


def test_a_model_on_gpus_has_a_process_a_gpu() -> None:
    [group] = groups([composed("model=olmo-1b")])
    assert (group.request.gpus_per_node, group.request.tasks_per_node) == (8, 8)
    [group] = groups([composed("model=olmo-1b", "compute.device=cpu")])
    assert (group.request.gpus_per_node, group.request.tasks_per_node) == (None, 1)


def test_a_model_that_states_nothing_needs_a_time_limit(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config.yaml").touch()
    mine = composed("model=local", f"checkpoint.path={tmp_path}")
    with pytest.raises(Refusal, match=r"hydra.launcher.timeout_min=null .* model=local states none"):
        groups([mine])


@given(parallelism=st.integers(1, 500), number=st.integers(1, 20))
def test_pieces_of_an_array_share_its_parallelism(parallelism: int, number: int) -> None:
    shares = _shares(parallelism, number)
    assert min(shares) >= 1
    assert sum(shares) == max(parallelism, number)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("infinite", float("inf")), ("30:00", 30), ("2:00:00", 120), ("7-00:00:00", 10080), ("1-12:30:30", 2190.5)],
)
def test_a_time_as_slurm_writes_it(written: str, expected: float) -> None:
    assert minutes(written) == expected


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "DependencyNeverSatisfied", True),
        ("PENDING", "Priority", False),
        ("RUNNING", "None", False),
    ],
)
def test_what_does_not_start_by_itself(state: str, reason: str, held: bool) -> None:
    assert Queued(state, reason).held == held
    assert bool(HELD.search(reason)) == held
