"""Which axis matters: published shares, and known truths under simulated noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweep.analysis.effects import MATTERS, UNDER, UNKNOWN, UNSURE, effects
from sweep.analysis.factors import varying_axes
from sweep.analysis.linear_model import holm
from tests.analysis.published import anneals, grid, needs_data
from tests.analysis.simulated import aliased, bent, coverage, false_alarms, leaks, sweep


@needs_data
def test_published_shares_of_cooldown_fraction_and_learning_rate() -> None:
    runs = grid()
    terms, _, _ = effects(runs, varying_axes(runs, ["lr", "frac"]), ["fval"])
    shares = {effect.term: round(effect.share_percent, 1) for effect in terms}
    assert shares == {"lr": 16.9, "frac": 67.3, "lr:frac": 15.8}
    assert {effect.verdict for effect in terms} == {UNKNOWN}


@needs_data
def test_published_reruns_are_the_noise_floor() -> None:
    runs = anneals().query("sched == 'wsd'")
    settings = [name for name in runs if name not in ("fval", "val", "file", "seed")]
    repeated = runs.groupby(settings, dropna=False)["fval"].agg(["size", "max", "min"])
    spread = (repeated["max"] - repeated["min"])[repeated["size"] > 1]
    _, _, (noise,) = effects(runs, varying_axes(runs, settings), ["fval"])
    assert len(spread) == noise.df == 9 and spread.mean() == pytest.approx(0.0014, abs=5e-5)
    assert noise.sd == pytest.approx(np.sqrt((spread**2 / 2).mean()))


@needs_data
def test_published_optimum_moves_to_shorter_cooldowns_as_the_rate_falls() -> None:
    runs = anneals()
    linear = runs[(runs.sched == "wsd") & (runs.decay == "linear") & (runs.iters == 50000)].drop_duplicates(
        ["lr", "frac"]
    )
    best = {lr: group.loc[group.fval.idxmin()] for lr, group in linear.groupby("lr")}
    assert (best[1e-3].frac, round(best[1e-3].fval, 4)) == (0.6, 2.9529)
    assert (best[1e-4].frac, round(best[1e-4].fval, 4)) == (0.2, 3.0646)


@needs_data
def test_published_square_root_beats_linear_at_high_rates_alone() -> None:
    runs = anneals()
    mine = runs[(runs.sched == "wsd") & (runs.iters == 50000) & (runs.frac == 0.2)]
    loss = mine.drop_duplicates(["lr", "decay"]).pivot(index="lr", columns="decay", values="fval")
    difference = (loss["sqrt"] - loss["linear"]).round(4)
    assert [difference[lr] for lr in (1e-3, 2e-3, 1e-4)] == [-0.0061, -0.0096, 0.0022]


def test_a_known_split_of_a_full_grid_is_recovered() -> None:
    a, b = np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 1.0])
    runs = pd.DataFrame({"a": a.ravel(), "b": b.ravel()})
    runs["y"] = 3 * runs.a + 2 * runs.b + runs.a * runs.b
    terms, levels, _ = effects(runs, varying_axes(runs, ["a", "b"]), ["y"])
    squares = {"a": 9 * 4, "b": 4 * 6, "a:b": 4}
    assert {e.term: e.share_percent for e in terms} == pytest.approx(
        {name: 100 * value / sum(squares.values()) for name, value in squares.items()}
    )
    assert {(e.axis, e.level): e.effect for e in levels}["a", 1.0] == pytest.approx(3)


def test_axes_that_move_together_are_one() -> None:
    runs = pd.DataFrame({"anneal.peak_lr": [1e-4, 2e-4] * 2, "anneal.steps": [10, 20] * 2, "seed": [0, 0, 1, 1]})
    (axis,) = varying_axes(runs, list(runs))
    assert (axis.name, axis.moves_with) == ("anneal.steps", ("anneal.peak_lr",))


def test_numbers_that_hardly_two_settings_share_were_drawn() -> None:
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"x0": rng.uniform(0, 1, 8), "x1": rng.uniform(0, 1, 8)})
    runs = pd.concat([runs, runs])
    runs["y"] = runs.x0 + rng.normal(0, 0.01, 16)
    terms, levels, _ = effects(runs, varying_axes(runs, ["x0", "x1"]), ["y"])
    assert {e.term: e.verdict for e in terms}["x0"] == MATTERS and not levels
    (alone,) = varying_axes(pd.DataFrame({"x": [1, 2, 3, 4, 5]}), ["x"])
    assert not alone.continuous, "each length of a plain sweep is looked at"


def test_an_axis_that_another_contains_has_no_share() -> None:
    runs = pd.DataFrame({"a": [1, 2, 3] * 2, "b": [1, 1, 2] * 2, "y": [1.0, 2.0, 3.0, 1.1, 2.1, 3.1]})
    terms, _, _ = effects(runs, varying_axes(runs, ["a", "b"]), ["y"])
    assert "b" not in {e.term for e in terms}


@pytest.mark.slow
@pytest.mark.parametrize("effect", [1.0, 5.0])
def test_what_a_model_has_no_column_for_makes_no_inert_axis_matter(effect: float) -> None:
    """A step is no line and square, and 9 runs of 18 have no column for an interaction: both lie on inert axes."""
    assert leaks(bent, {"x1", "x2"}, settings=16, effect=effect, sweeps=25) <= 0.05 + 0.131
    assert leaks(aliased, {"x2"}, settings=9, effect=effect, sweeps=25) <= 0.05 + 0.131


@pytest.mark.slow
def test_a_drawn_axis_must_explain_more_than_its_own_values_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over of a high step is no noise, which F takes it for."""
    now = leaks(bent, {"x1", "x2"}, settings=16, effect=30.0, sweeps=25)
    monkeypatch.setattr("sweep.analysis.linear_model.MOST", 0)
    by_f = leaks(bent, {"x1", "x2"}, settings=16, effect=30.0, sweeps=25)
    assert now < by_f
    assert leaks(bent, {"x0"}, settings=32, effect=5.0, sweeps=5) == 1.0


@pytest.mark.parametrize(("num_axes", "settings"), [(3, 7), (3, 10), (2, 6)])
def test_a_steep_line_is_found_where_the_model_has_a_column_for_every_setting(num_axes: int, settings: int) -> None:
    rng, names = np.random.default_rng(0), [f"x{i}" for i in range(num_axes)]
    drawn = pd.DataFrame(rng.uniform(0, 1, (settings, num_axes)), columns=names)
    runs = pd.concat([drawn] * 3, ignore_index=True)
    runs["y"] = 20 * runs["x0"] + rng.normal(size=len(runs))
    terms, _, _ = effects(runs, varying_axes(runs, names), ["y"])
    assert {e.term: e.verdict for e in terms}["x0"] == MATTERS


def test_what_chance_may_explain_is_not_called_noise() -> None:
    """A step of 30 sd in one of 16 settings: far above the noise, and as good in most other orders."""
    rng = np.random.default_rng(1)
    drawn = pd.DataFrame(rng.uniform(0, 1, (16, 2)), columns=["x0", "x1"])
    runs = pd.concat([drawn] * 2, ignore_index=True)
    runs["y"] = 30.0 * (np.arange(32) % 16 == 3) + rng.normal(size=32)
    terms, _, _ = effects(runs, varying_axes(runs, ["x0", "x1"]), ["y"])
    assert MATTERS not in {e.verdict for e in terms}
    assert all(e.verdict == UNSURE for e in terms if e.p_value is not None and e.share_percent > e.floor_percent)


def test_p_values_are_adjusted_for_their_number() -> None:
    """By hand: .01 times 4, .02 times 3, .03 times 2, and no less than the one before."""
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.9, 0.02])), [0.06, 0.04, 0.9, 0.06])


def test_pairs_move_together_in_either_order_and_a_model_with_its_size() -> None:
    pairs = pd.DataFrame({"anneal.steps": [1, 2, 3, 4, 5] * 2, "anneal.peak_scale": [5, 4, 3, 2, 1.5] * 2})
    (steps,) = varying_axes(pairs, list(pairs))
    assert (steps.name, steps.moves_with) == ("anneal.steps", ("anneal.peak_scale",))
    models = pd.DataFrame({"model": ["d", "b", "c", "a"], "model.parameters": [1, 2, 3, 4]})
    (model,) = varying_axes(models, list(models))
    assert (model.name, model.moves_with) == ("model", ("model.parameters",))


def test_without_repeated_runs_no_axis_is_said_to_matter() -> None:
    runs = sweep(seed=0, levels=(3, 3), active=1, seeds=(1, 1))
    terms, _, (noise,) = effects(runs, varying_axes(runs, ["x0", "x1"]), ["y"])
    assert {e.verdict for e in terms} == {UNKNOWN} and noise.sd is None


def test_an_effect_above_the_floor_matters_and_one_below_does_not() -> None:
    runs = sweep(seed=0, levels=(3, 3), active=1, seeds=(3, 3), effect=3.0)
    terms, _, _ = effects(runs, varying_axes(runs, ["x0", "x1"]), ["y"])
    verdicts = {e.term: e.verdict for e in terms}
    assert verdicts["x0"] == MATTERS and verdicts["x1"] == UNDER
    assert all((e.verdict == MATTERS) == (e.p_value is not None and e.p_value < 0.05) for e in terms)


def test_continuous_axes_are_looked_at_by_line_and_square() -> None:
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({f"x{i}": rng.uniform(0, 1, 60) for i in range(7)})
    runs["y"] = 3 * runs.x0 + 2 * runs.x1 + runs.x2**2 + rng.normal(0, 0.1, 60)
    terms, _, _ = effects(runs, varying_axes(runs, [f"x{i}" for i in range(7)]), ["y"])
    ranked = sorted((e for e in terms if ":" not in e.term), key=lambda e: -e.share_percent)
    assert [e.term for e in ranked[:3]] == ["x0", "x1", "x2"]


def test_outcomes_that_some_runs_lack_are_judged_on_those_that_have_them() -> None:
    runs = sweep(seed=1, levels=(3, 2), active=1, seeds=(2, 2), effect=5.0)
    runs["z"] = runs["y"].where(runs.index != 0)
    terms, _, _ = effects(runs, varying_axes(runs, ["x0", "x1"]), ["y", "z"])
    assert {(e.outcome, e.runs) for e in terms} == {("y", 12), ("z", 11)}


SLOW = [pytest.param(levels, missing, marks=pytest.mark.slow) for levels, missing in (((3, 2, 2), 2), ((2,) * 5, 6))]


@pytest.mark.parametrize(("levels", "missing"), [((3,), 0), ((3, 2), 0), *SLOW])
def test_intervals_and_verdicts_keep_what_they_promise(levels: tuple[int, ...], missing: int) -> None:
    """100 sweeps a design, so the bounds are wider by three standard errors; bench/analysis.py has the full size."""
    rates = [coverage(levels, missing=missing, sweeps=100), false_alarms(levels, missing=missing, sweeps=100)]
    assert 0.90 <= rates[0] <= 0.99 and rates[1] <= 0.05 + 0.065
