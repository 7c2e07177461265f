"""Differences on the same documents, best settings, signal-to-noise, order of checkpoints, and what was not run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweep.analysis.comparisons import _settings, matched_controls
from sweep.analysis.factors import varying_axes
from sweep.analysis.gains import Comparison, bootstrap, gain, mcnemar, with_document_test
from sweep.analysis.gaussian_process import fit_surface, importances
from sweep.analysis.outcomes import Outcome
from sweep.analysis.predictions import by_surface, settings_not_run
from sweep.analysis.settings import setting_gains
from sweep.analysis.signal_to_noise import signal_to_noise

LOSS = Outcome("loss", "heldout")
ACC = Outcome("acc", "arc_easy")


def test_mcnemar_looks_at_the_documents_that_changed_alone() -> None:
    before = np.array([1.0] * 50 + [0.0] * 50)
    after = before.copy()
    after[50:60] = 1  # ten became right
    after[0:2] = 0  # two became wrong
    assert mcnemar(before, after) == pytest.approx(stats.binomtest(10, 12).pvalue)
    assert mcnemar(before, before) == 1.0


def test_better_and_worse_are_said_by_the_test_that_the_table_names() -> None:
    """Five documents of a hundred became right, none wrong: z calls that a difference, the exact test does not."""
    before, after = np.zeros(100), np.zeros(100)
    after[:5] = 1
    difference = after - before
    accuracy = Comparison(
        checkpoint="a@1", checkpoint_digest="a", run="r", key="k", arm="decay", against="checkpoint", outcome=ACC.name
    )
    by_error = gain(accuracy, first=0.0, second=0.05, stderr=float(difference.std(ddof=1) / 10))
    assert (by_error.test, by_error.verdict) == ("z", "better")
    exact = with_document_test(by_error, (before, after))
    assert (exact.test, exact.verdict) == ("McNemar", "not told apart")
    after[5] = 1
    assert with_document_test(by_error, (before, after)).verdict == "better"
    loss = gain(replace(accuracy, outcome=LOSS.name), first=4.0, second=4.5, stderr=0.1)
    assert loss.verdict == "worse"


def test_the_bootstrap_interval_is_that_of_the_mean_difference() -> None:
    difference = np.random.default_rng(1).normal(0.3, 1.0, 400)
    low, high, p_value = bootstrap(difference)
    stderr = difference.std(ddof=1) / 20
    assert (low, high) == pytest.approx(
        (difference.mean() - 1.96 * stderr, difference.mean() + 1.96 * stderr), abs=0.02
    )
    assert p_value < 0.01
    assert bootstrap(np.zeros(5)) == (0.0, 0.0, 1.0)


def test_a_gain_says_its_test_and_the_least_it_could_have_seen() -> None:
    accuracy = Comparison(
        checkpoint="a@1", checkpoint_digest="a", run="r", key="k", arm="decay", against="checkpoint", outcome=ACC.name
    )
    loss = replace(accuracy, outcome=LOSS.name)
    plain = gain(accuracy, first=0.5, second=0.52, stderr=0.01)
    assert (plain.test, round(plain.detectable, 4)) == ("z", 0.028)
    assert plain.p_value == pytest.approx(0.0455, abs=1e-4)
    documents = (np.zeros(10), np.ones(10))
    assert with_document_test(gain(accuracy, first=0.0, second=1.0, stderr=0.0), documents).test == "McNemar"
    assert with_document_test(gain(loss, first=0.0, second=1.0, stderr=0.0), documents).test == "bootstrap"


def test_an_anneal_is_compared_with_its_own_matched_control() -> None:
    runs = pd.DataFrame(
        {
            "arm": ["decay", "decay", "constant", "constant", "none"],
            "anneal.steps": [10, 20, 20, 10, 0],
            "anneal.shape": ["linear", "sqrt", "constant", "constant", "linear"],
            "anneal.peak_scale": [2, 0.5, "null", "null", "null"],
            "anneal.optimizer": ["keep"] * 5,
            "seed": [0, 0, 0, 0, 0],
        }
    )
    assert matched_controls(runs, [c for c in runs if c != "arm"]) == {0: 3, 1: 2}


def anneals(*, seeds: int = 2, noise: float = 0.001) -> pd.DataFrame:
    """Losses that fall with steps, and are least at a peak scale of 1."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "checkpoint": "m@1",
            "checkpoint_name": "m@1",
            "anneal.steps": steps,
            "anneal.peak_scale": scale,
            "seed": seed,
            "arm": "decay",
        }
        | {"delta/loss/heldout": 0.05 * (scale - 1) ** 2 - 0.02 * np.log2(steps) + noise * rng.normal()}
        | {"stderr/delta/loss/heldout": 0.004, "cost/tokens": 100.0 * steps, "cost/anneal_s": 0.1 * steps}
        for steps in (100, 200, 400)
        for scale in (0.5, 1.0, 2.0)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def test_the_best_setting_and_those_not_told_apart_from_it() -> None:
    runs = anneals()
    found = setting_gains(runs, varying_axes(runs, ["anneal.steps", "anneal.peak_scale"]), LOSS)
    assert dict(found[0].settings) == {"anneal.steps": 400, "anneal.peak_scale": 1.0} and found[0].best
    assert found[0].cheapest and [setting.apart for setting in found[1:]] == [True] * 8
    noisy = anneals(seeds=4, noise=0.2)
    loud = setting_gains(noisy, varying_axes(noisy, ["anneal.steps", "anneal.peak_scale"]), LOSS)
    assert not any(setting.apart for setting in loud)
    assert next(setting for setting in loud if setting.cheapest).tokens == 10_000


def test_without_repeated_seeds_no_setting_is_told_apart() -> None:
    runs = anneals(seeds=1)
    found = setting_gains(runs, varying_axes(runs, ["anneal.steps", "anneal.peak_scale"]), LOSS)
    assert {setting.apart for setting in found} == {None} and {setting.low for setting in found} == {None}


def test_a_task_separates_settings_that_lie_further_apart_than_seeds() -> None:
    for noise, separates in ((0.001, True), (0.2, False)):
        runs = anneals(seeds=4, noise=noise)
        (found,) = signal_to_noise(runs, varying_axes(runs, ["anneal.steps", "anneal.peak_scale"]), [LOSS])
        assert found.separates is separates
    runs = anneals(seeds=1)
    assert (
        signal_to_noise(runs, varying_axes(runs, ["anneal.steps"]), [LOSS])[0].separates is not None
    )  # other scales are repeats here


def test_unrun_settings_are_predicted_the_most_promising_first() -> None:
    runs = anneals()
    held_out = (runs["anneal.steps"] == 200) & (runs["anneal.peak_scale"] == 1.0)
    known, found = runs[~held_out], varying_axes(runs, ["anneal.steps", "anneal.peak_scale"])
    fitted = fit_surface(known, found, "delta/loss/heldout")
    assert fitted is not None
    not_run = settings_not_run(known, found)
    assert not set(known[["anneal.steps", "anneal.peak_scale"]].itertuples(index=False, name=None)) & set(
        not_run.itertuples(index=False, name=None)
    )
    predictions = by_surface(fitted, LOSS, -0.173, not_run)
    predicted = next(p for p in predictions if dict(p.settings) == {"anneal.steps": 200, "anneal.peak_scale": 1.0})
    truth = runs[held_out]["delta/loss/heldout"].mean()
    assert predicted.value == pytest.approx(truth, abs=0.005) and predicted.low < predicted.value < predicted.high
    expected = [p.expected_improvement or 0.0 for p in predictions]
    assert expected == sorted(expected, reverse=True) and dict(predictions[0].settings)["anneal.steps"] == 400


def test_a_forest_gives_an_inert_axis_little() -> None:
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({name: rng.integers(0, 4, 200) for name in ("a", "b", "c")})
    runs["y"] = 2.0 * runs["a"] + runs["b"] + 0.1 * rng.normal(size=200)
    found = {i.axis: i.total_percent for i in importances(runs, varying_axes(runs, ["a", "b", "c"]), "y", "y")}
    assert found["a"] > found["b"] > 10 > found["c"]


def test_runs_without_a_choice_that_others_have_are_a_setting_of_their_own() -> None:
    """Sweeps of before and after a choice was added are reported together: the older runs have NaN there."""
    runs = pd.DataFrame({"seed": [0, 1, 0], "anneal.kind": [np.nan, np.nan, "new"], "anneal.steps": [1, 1, 1]})
    first, repeated, other = _settings(runs, list(runs))
    assert first == repeated != other
