"""Did annealing help, over seeds and documents together: intervals that cover, and few false alarms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sweep.analysis.gains import Comparison, Gain, gain
from sweep.analysis.over_seeds import document_variance, gains_of_settings

from .simulated import seeded_coverage

ACC = Comparison(
    checkpoint="a@1", checkpoint_digest="a", run="r", key="k0", arm="decay", against="checkpoint", outcome="mean/core8"
)


def runs(*deltas: float, stderr: float = 0.01) -> list[Gain]:
    """Runs of one setting that gained so much."""
    return [gain(replace(ACC, key=f"k{i}"), first=0.3, second=0.3 + d, stderr=stderr) for i, d in enumerate(deltas)]


def test_seeds_that_disagree_are_no_finding_though_one_run_alone_is() -> None:
    """Of 4 runs 2 are said to be worse by their documents; the mean over seeds can't be told from 0."""
    found = runs(-0.030, 0.012, -0.025, 0.009)
    assert [g.verdict for g in found] == ["worse", "not told apart", "worse", "not told apart"]
    (together,) = gains_of_settings(found, dict.fromkeys(("k0", "k1", "k2", "k3"), "s"), {})
    assert (together.seeds, together.verdict) == (4, "not told apart")
    assert together.delta == pytest.approx(-0.0085)
    assert together.stderr == pytest.approx(math.hypot(np.std([-0.030, 0.012, -0.025, 0.009], ddof=1) / 2, 0.01))


def test_without_seeds_a_gain_is_that_of_its_run_and_a_lone_run_gets_the_noise_of_the_others() -> None:
    alone = runs(0.03)
    assert gains_of_settings(alone, {"k0": "s"}, {}) == tuple(alone)
    *_, lone = gains_of_settings(runs(0.02, 0.06, 0.03), {"k0": "s", "k1": "s", "k2": "t"}, {})
    assert lone.seeds == 1 and lone.stderr == pytest.approx(math.hypot(0.04 / math.sqrt(2), 0.01))


def test_documents_that_move_all_seeds_alike_do_not_average_out() -> None:
    alike = np.random.default_rng(0).normal(size=400)
    shared = document_variance([alike + seed for seed in (0.0, 1.0, 2.0)])
    assert shared == pytest.approx(alike.var(ddof=1) / 400)
    assert document_variance([*np.random.default_rng(1).normal(size=(50, 400))]) < 0.1 / 400


@pytest.mark.parametrize(("seeds", "seed_sd", "shared_sd"), [(2, 3.0, 1.0), (3, 0.5, 0.5), (12, 1.0, 0.3)])
def test_intervals_cover_and_false_alarms_are_few(seeds: int, seed_sd: float, shared_sd: float) -> None:
    covered = seeded_coverage(seeds=seeds, seed_sd=seed_sd, shared_sd=shared_sd, sweeps=400)
    assert 0.93 <= covered <= 0.98
