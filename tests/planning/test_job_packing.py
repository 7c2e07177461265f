"""Which runs share a job, and what each job asks for."""

from __future__ import annotations

import inspect

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from submitit.slurm.slurm import _make_sbatch_string

from sweep.commands.main import CONF
from sweep.domain.errors import Refusal
from sweep.launch.cluster import HELD, Queued, minutes
from sweep.launch.slurm import _shares
from sweep.planning.job_packing import JobRequest, packed
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
    assert ("resources" in stated) == (option != "local")


def test_runs_of_one_checkpoint_share_a_job_and_equal_requests_are_neighbours() -> None:
    configs = [
        composed(f"model={model}", f"checkpoint.step={step}", f"anneal.steps={steps}")
        for steps in (100, 200)
        for step in (1000, 500)
        for model in ("tiny-s", "tiny-l")
    ]
    packs = packed(configs, NOTHING, pack=2, pack_min=0)
    assert sorted(i for pack in packs for i in pack.runs) == list(range(8))
    for pack in packs:
        assert len({(configs[i].model.name, configs[i].checkpoint.step) for i in pack.runs}) == 1
        assert [configs[i].anneal.steps for i in pack.runs] == [200, 100], "the longest first"
    requests = [pack.request for pack in packs]
    assert len([i for i in range(3) if requests[i] != requests[i + 1]]) == len(set(requests)) - 1


def test_auto_packs_as_many_as_fit_into_the_minutes() -> None:
    configs = [composed(f"seed={seed}", "anneal.steps=1000") for seed in range(6)]  # 0.7 + 2 * 2 minutes each
    assert [len(pack.runs) for pack in packed(configs, NOTHING, pack="auto", pack_min=15)] == [3, 3]


def test_a_longer_anneal_asks_for_a_longer_time_limit_and_the_users_word_counts() -> None:
    short, long = composed("anneal.steps=250"), composed("anneal.steps=100000")
    times = [pack.request.timeout_min for pack in packed([short, long], NOTHING, pack=1, pack_min=0)]
    assert sorted(times) == [30, 240], "minutes for 250 updates, scoring and the pretraining, twice, rounded up"
    mine = JobRequest(nodes=2, tasks_per_node=4, gpus_per_node=4, cpus_per_task=8, mem_gb=64, timeout_min=33)
    [pack] = packed([short], mine, pack=1, pack_min=0)
    assert pack.request.__dict__ == mine.__dict__


def test_a_model_on_gpus_has_a_process_a_gpu() -> None:
    [pack] = packed([composed("model=olmo-1b")], NOTHING, pack=1, pack_min=0)
    assert (pack.request.gpus_per_node, pack.request.tasks_per_node) == (8, 8)
    [pack] = packed([composed("model=olmo-1b", "compute.device=cpu")], NOTHING, pack=1, pack_min=0)
    assert (pack.request.gpus_per_node, pack.request.tasks_per_node) == (None, 1)


def test_a_model_that_states_nothing_needs_a_time_limit(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config.yaml").touch()
    mine = composed("model=local", f"checkpoint.path={tmp_path}")
    with pytest.raises(Refusal, match=r"hydra.launcher.timeout_min=null .* model=local states none"):
        packed([mine], NOTHING, pack=1, pack_min=0)


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
