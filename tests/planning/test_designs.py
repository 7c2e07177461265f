"""Designs of a sweep: which points its axes make, told as values and as what a person types."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.commands.preview import points as previewed
from sweep.domain.errors import Refusal
from sweep.planning.designs import DIGITS, DRAWN, Range, points, ranged
from sweep.planning.fractional_design import fraction
from sweep.sweeps.points import designed, takes_whole
from sweep.sweeps.run_folders import objective
from sweep.tracking import Journal

PEAK, STEPS = "anneal.peak_lr=interval(1e-5,1e-3)", "anneal.steps=interval(50,800)"


def typed_points(*words: str, design: str = "product", runs: int | None = None, seed: int = 0) -> list[list[str]]:
    """What these words make."""
    return designed(OverridesParser.create().parse_overrides([*words]), design=design, runs=runs, seed=seed)


def test_a_product_has_every_combination_and_the_last_axis_runs_fastest() -> None:
    made = typed_points("anneal.steps=2,3", "anneal.shape=linear,sqrt", "name=x")
    assert [" ".join(point) for point in made] == [
        f"anneal.steps={steps} anneal.shape={shape} name=x" for steps in (2, 3) for shape in ("linear", "sqrt")
    ]
    assert len(typed_points("seed=0,1", "anneal.steps=2,3")) == 4


def test_pairs_go_together_and_every_seed_runs_each() -> None:
    made = typed_points("anneal.steps=2,3", "anneal.peak_scale=1,2", "seed=0,1", "name=x", design="zip")
    assert made == [
        [f"anneal.steps={steps}", f"anneal.peak_scale={scale}", f"seed={seed}", "name=x"]
        for steps, scale in ((2, 1), (3, 2))
        for seed in (0, 1)
    ]


@pytest.mark.parametrize("design", DRAWN)
def test_draws_fill_the_ranges_and_are_the_same_each_time(design: str) -> None:
    words = (PEAK, STEPS, "anneal.shape=linear,sqrt")
    made = typed_points(*words, design=design, runs=32)
    assert made == typed_points(*words, design=design, runs=32) != typed_points(*words, design=design, runs=32, seed=1)
    peaks, steps, shapes = ([word.partition("=")[2] for word in column] for column in zip(*made, strict=True))
    assert all(1e-5 <= float(peak) <= 1e-3 and len(peak.partition("e")[0]) < DIGITS + 7 for peak in peaks)
    assert all(50 <= int(count) <= 800 for count in steps), "a key of whole numbers gets whole numbers"
    low = sum(float(peak) < 1e-4 for peak in peaks)
    assert 8 < low < 24 if design == "random" else low == 16, "a wide range is drawn by its ratios"
    assert set(shapes) == {"linear", "sqrt"}
    if design != "random":
        assert Counter(shapes) == {"linear": 16, "sqrt": 16}


@pytest.mark.parametrize("design", ["random", "sobol"])
def test_more_runs_go_on_from_the_fewer(design: str) -> None:
    assert typed_points(PEAK, STEPS, design=design, runs=20)[:12] == typed_points(PEAK, STEPS, design=design, runs=12)


def test_seeds_are_crossed_with_draws_as_they_are_noise() -> None:
    made = typed_points(PEAK, "seed=0,1,2", design="sobol", runs=8)
    assert len(made) == 24
    assert Counter(word[1] for word in made) == {f"seed={n}": 8 for n in range(3)}


@given(
    st.floats(1e-6, 1e3),
    st.floats(1.01, 1e6),
    st.booleans(),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_a_number_drawn_is_inside_its_range(low: float, factor: float, log: bool, shares: list[float]) -> None:
    axis = Range(low=low, high=low * factor, log=log, whole=False)
    for text in axis.values(np.array(shares)):
        assert low * (1 - 1e-11) <= float(text) <= axis.high * (1 + 1e-11)


def test_whole_numbers_are_drawn_alike_ends_included() -> None:
    drawn = Counter(Range(low=1, high=4, log=False, whole=True).values((np.arange(400) + 0.5) / 400))
    assert drawn == {"1": 100, "2": 100, "3": 100, "4": 100}


def test_a_range_says_itself_how_it_is_looked_at() -> None:
    assert ranged("x", 1, 10, (), whole=False).log and not ranged("x", 1, 2, (), whole=False).log
    assert ranged("x", 1, 2, ("log",), whole=False).log and not ranged("x", 1, 10, ("linear",), whole=False).log
    assert not ranged("x", 0, 10, (), whole=False).log
    assert takes_whole("anneal.steps") and takes_whole("anneal.batch_size")
    assert not any(takes_whole(key) for key in ("anneal.peak_lr", "model", "no.such"))


@pytest.mark.parametrize(("axes", "runs"), [(3, 4), (4, 8), (5, 16), (6, 16), (7, 8)])
def test_two_level_fractions_are_the_classical_ones(axes: int, runs: int) -> None:
    signs = 2 * np.array(fraction([2] * axes, runs, 0)) - 1
    assert len(np.unique(signs, axis=0)) == runs
    main = signs.T @ signs
    assert np.array_equal(main, runs * np.eye(axes)) and not signs.sum(0).any(), "main effects are apart"
    pairs = np.stack([signs[:, i] * signs[:, j] for i, j in combinations(range(axes), 2)], axis=1)
    if (axes, runs) in ((4, 8), (5, 16), (6, 16)):
        assert not (signs.T @ pairs).any(), "resolution IV: no interaction looks like a main effect"
    if (axes, runs) == (5, 16):
        assert np.array_equal(pairs.T @ pairs, 16 * np.eye(10)), "resolution V: interactions are apart"


def test_a_mixed_fraction_is_balanced() -> None:
    words = (
        "anneal.steps=2,3,4",
        "anneal.peak_scale=1,2,4",
        "anneal.shape=linear,sqrt",
        "checkpoint.step=500,1000,2000",
    )
    made = typed_points(*words, design="fractional", runs=18)
    assert len(made) == 18
    assert made == typed_points(*words, design="fractional", runs=18)
    for column in zip(*made, strict=True):
        assert len(set(Counter(column).values())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("levels", "runs"), [([2] * 22, 12), ([5] * 6, 25), ([8] + [2] * 12, 24)])
def test_a_fraction_of_a_grid_too_large_to_list(levels: list[int], runs: int) -> None:
    rows = fraction(levels, runs, 0)
    assert len(set(rows)) == runs
    assert [len(set(column)) for column in zip(*rows, strict=True)] == levels, "every level is run"


def test_the_preview_shows_the_points_that_would_run_and_their_controls() -> None:
    words = (PEAK, STEPS, "hydra.sweeper.design=lhs", "hydra.sweeper.runs=4", "controls=[constant]")
    arms = Counter(config.anneal.arm for config in previewed(words))
    assert arms == {"decay": 4, "constant": 4}


@pytest.mark.parametrize(
    ("words", "design", "complaint"),
    [
        ([PEAK], {}, r"anneal.peak_lr=interval\(1e-05,0.001\): .*takes listed values; allowed: .*sobol.* .*runs=N"),
        ([PEAK], {"design": "fractional", "runs": 4}, "design=fractional takes listed values"),
        ([PEAK], {"design": "sobol"}, "hydra.sweeper.runs=null: hydra.sweeper.design=sobol needs a number, at least 1"),
        ([PEAK], {"design": "lhs", "runs": 0}, "hydra.sweeper.runs=0"),
        (["seed=0,1"], {"runs": 4}, "hydra.sweeper.runs=4: hydra.sweeper.design=product runs every point it has"),
        (["seed=0"], {"design": "soboll"}, "hydra.sweeper.design=soboll: .*did you mean sobol"),
        (["seed=interval(0,3)"], {"design": "lhs", "runs": 4}, "the values of seed are listed, as in seed=0,1"),
        (["anneal.steps=1,2,3", "anneal.peak_scale=1,2"], {"design": "zip"}, "steps has 3, anneal.peak_scale has 2"),
        (["anneal.steps=1,2,3", "anneal.peak_scale=1,2"], {"design": "fractional", "runs": 3}, "at least 4, .* most 6"),
        (["anneal.steps=interval(1.5,3)"], {"design": "lhs", "runs": 2}, "anneal.steps takes whole numbers"),
        (["anneal.peak_lr=interval(3,1)"], {"design": "lhs", "runs": 2}, "the first number must be below the second"),
        (["a=tag(log,interval(0,1))"], {"design": "lhs", "runs": 2}, "log of numbers above 0 alone"),
        (["a=tag(lg,interval(1,2))"], {"design": "lhs", "runs": 2}, "'lg' is not one of log, linear"),
    ],
)  # fmt: skip
def test_what_no_design_can_be_made_of_is_refused(words: list[str], design: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        typed_points(*words, **design)


def test_a_point_twice_is_one() -> None:
    assert points({"a": ("1", "1")}, design="product", runs=None, seed=0) == [("1",)]
    assert points({}, design="product", runs=None, seed=0) == [()]


def test_a_run_returns_its_heldout_loss_to_sweepers_that_seek(tmp_path: Path) -> None:
    after = [{"metric": "acc", "task": "piqa:20", "value": 0.5}, {"metric": "loss", "task": "heldout:20", "value": 4.5}]
    with Journal(tmp_path) as journal:
        journal.write("outcome", status="finished", error=None, result={"key": "k", "after": after})
    assert objective(tmp_path) == 4.5
    assert objective(tmp_path / "absent") is None
