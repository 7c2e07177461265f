"""`compute.…=auto` is fp32 in one pass on a CPU, and on GPUs what the checkpoint was trained in, in passes that fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweep.config import RunConfig
from sweep.domain.errors import Refusal
from sweep.planning.auto_compute import ON_CPU, USABLE, Gpus, settled, without_autos
from sweep.planning.gpu_memory import Pass, memory_bytes
from sweep.planning.model_sizes import stated_sizes
from sweep.planning.names import run_key
from sweep.sweeps import gpus as of_machine
from sweep.sweeps.gpus import gpus_for, trained_in
from tests.composing import composed

GB = 10**9
ANNEAL = "anneal.steps=5"


def on_gpus(config: RunConfig, memory_gb: int, ranks: int) -> tuple[Any, ...]:
    compute = settled(config, ON_CPU.keys(), "bf16", Gpus(memory=memory_gb * GB, ranks=ranks))
    return compute.precision, compute.micro_batch_size, compute.activation_checkpointing


def test_on_a_cpu_auto_is_what_it_stands_for_and_makes_no_other_run() -> None:
    chosen = composed(ANNEAL)
    assert (chosen.compute.precision, chosen.compute.micro_batch_size) == ("fp32", None)
    words = (f"compute.{name}={'null' if value is None else str(value).lower()}" for name, value in ON_CPU.items())
    assert run_key(composed(ANNEAL, *words)) == run_key(chosen)
    assert without_autos({"compute": {"precision": "auto", "micro_batch_size": 2}}) == (
        {"compute": {"precision": "fp32", "micro_batch_size": 2}},
        {"precision"},
    )


@pytest.mark.parametrize(
    ("words", "memory_gb", "ranks", "expected"),
    [
        (("model=olmo-1b", "anneal=olmo1"), 80, 1, ("bf16", 8, False)),
        (("model=olmo-1b", "anneal=olmo1"), 24, 1, ("bf16", 2, True)),
        (("model=olmo-7b",), 80, 8, ("bf16", 3, False)),
        ((ANNEAL,), 80, 1, ("bf16", None, False)),
    ],
)
def test_as_few_passes_as_the_memory_allows(
    words: tuple[str, ...], memory_gb: int, ranks: int, expected: tuple[Any, ...]
) -> None:
    config = composed(*words)
    assert on_gpus(config, memory_gb, ranks) == expected
    sizes, batch, length = stated_sizes(config.model), config.model.batch_size, config.model.sequence_length
    assert sizes is not None
    assert batch is not None
    assert length is not None

    def fits(micro: int, *, again: bool) -> bool:
        work = Pass(sequence_length=length, micro_batch_size=micro, bf16=True, activation_checkpointing=again)
        return memory_bytes(sizes, work, ranks=ranks).total <= USABLE * memory_gb * GB

    micro, again = expected[1] or batch // ranks, expected[2]
    assert fits(micro, again=again)
    larger = [m for m in range(micro + 1, batch // ranks + 1) if batch // ranks % m == 0]
    assert not [m for m in larger if fits(m, again=again)]
    assert not (again and fits(1, again=False))


def test_an_explicit_choice_wins_and_what_never_fits_is_refused() -> None:
    config = composed("model=olmo-1b", "compute.micro_batch_size=4", "compute.precision=fp32")
    compute = settled(config, {"activation_checkpointing"}, "bf16", Gpus(memory=80 * GB, ranks=1))
    assert compute == dataclasses.replace(config.compute, activation_checkpointing=False)
    with pytest.raises(
        Refusal, match=r"compute.micro_batch_size=auto: an update of olmo-7b takes \d+ GB even with one"
    ):
        on_gpus(composed("model=olmo-7b"), 80, 1)


def test_the_gpus_are_this_machines_or_those_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = composed("model=olmo-7b").model.resources, composed().model.resources
    monkeypatch.setattr(of_machine, "gpu_memories", tuple)
    assert gpus_for("auto", large, None) is None
    assert gpus_for("auto", large, {"gpus_per_node": None, "nodes": None}) == Gpus(memory=80 * GB, ranks=8)
    assert gpus_for("auto", large, {"gpus_per_node": 4, "nodes": 2}) == Gpus(memory=80 * GB, ranks=8)
    assert gpus_for("auto", small, {"gpus_per_node": None}) is None
    monkeypatch.setattr(of_machine, "gpu_memories", lambda: (48 * GB, 24 * GB))
    assert gpus_for("auto", small, None) == Gpus(memory=24 * GB, ranks=1)
    assert gpus_for("cpu", large, None) is None
    assert composed("model=olmo-1b", "anneal=olmo1").compute.micro_batch_size == 2, (
        "composed for the smaller of the two"
    )


def test_the_precision_is_that_of_the_checkpoints_own_training(tmp_path: Path) -> None:
    assert trained_in(composed("model=olmo-1b").model, composed().checkpoint) == "bf16"
    assert trained_in(composed().model, composed().checkpoint) == "fp32"
    local = dataclasses.replace(composed().checkpoint, path=str(tmp_path))
    assert trained_in(composed().model, local) == "fp32", "nothing says it"
    (tmp_path / "config.yaml").write_text("seed: 1\nprecision: amp_bf16\n")
    assert trained_in(composed().model, local) == "bf16"
