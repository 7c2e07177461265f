"""Builds: which states and scores a run takes, by the version of torch and the processor that made them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sweep.planning.keys import BEFORE_BUILDS
from sweep.run.builds import builds, this_build
from sweep.run.prepare import scoring_numerics
from sweep.system import builds as rooms
from sweep.system.store import Store
from tests.conftest import COMPUTE

CPU = torch.device("cpu")


def test_a_build_says_what_decides_the_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    own = this_build(COMPUTE, CPU)
    assert torch.__version__ in own and torch.backends.cpu.get_cpu_capability() in own
    monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
    assert this_build(COMPUTE, CPU) != own
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    assert this_build(COMPUTE, CPU) != own


def test_instructions_for_bf16_count_only_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for flags in ("fma avx512f", "fma avx512f avx512_bf16", "fma avx512f avx512_bf16 amx_bf16"):
        monkeypatch.setattr(rooms, "_cpu_info", lambda flags=flags: f"vendor_id\t: GenuineIntel\nflags\t\t: {flags}\n")
        found[flags] = [rooms.cpu_build("2", "AVX512", precision) for precision in ("fp32", "bf16")]
    assert {fp32 for fp32, _ in found.values()} == {"torch 2 GenuineIntel AVX512"}
    assert len({bf16 for _, bf16 in found.values()}) == 3


def test_any_takes_all_that_the_store_lists_and_what_came_before(store: Store) -> None:
    rooms.record(store, "torch 1 AMD AVX2")
    assert builds(store, COMPUTE, CPU) == [own := this_build(COMPUTE, CPU)]
    taking = dataclasses.replace(COMPUTE, reuse="any")
    assert builds(store, taking, CPU) == [own, "torch 1 AMD AVX2", BEFORE_BUILDS]
    assert sorted(rooms.recorded(store)) == sorted([own, "torch 1 AMD AVX2"]), "this one is listed from now on"


def test_scores_of_another_build_are_found_by_what_it_says_of_itself(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that multiplies follows from the build, so that a build can name the scores of another."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    (made,) = scoring_numerics(store, COMPUTE, CPU)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    own, *others = scoring_numerics(store, dataclasses.replace(COMPUTE, reuse="any"), CPU)
    assert own != made and made in others
