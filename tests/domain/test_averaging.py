"""What each checkpoint weighs in an average, by hand and by the training that it stands in for."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.domain.averaging import coefficients, fractions
from sweep.domain.shapes import SHAPES, WEIGHTS

STEPS = (100, 200, 300, 400)


def test_uniform_is_a_plain_mean() -> None:
    np.testing.assert_array_equal(coefficients(STEPS, "uniform"), [0.25, 0.25, 0.25, 0.25])


def test_a_straight_line_over_three_single_updates_by_hand() -> None:
    # the updates run at 2/3, 1/3 and 0 of the peak, so the last one leaves no trace
    np.testing.assert_allclose(coefficients((7, 8, 9, 10), "linear"), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-15)


def test_one_minus_sqrt_over_long_intervals_by_hand() -> None:
    # the mean of 1 - sqrt(x) from a to b is 1 - 2/3 (b^1.5 - a^1.5) / (b - a)
    w1, w2 = 1 - 2 / 3 * 0.5**1.5 / 0.5, 1 - 2 / 3 * (1 - 0.5**1.5) / 0.5
    np.testing.assert_allclose(coefficients((0, 100_000, 200_000), "sqrt"), [1 - w1, w1 - w2, w2], atol=1e-5)


def test_a_longer_interval_counts_as_long_as_it_is() -> None:
    np.testing.assert_allclose(fractions((0, 3, 4), "linear"), [(3 / 4 + 2 / 4 + 1 / 4) / 3, 0])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("steps", [STEPS, (5, 6), (0, 1, 50, 60, 1000)])
def test_weights_are_shares(weights: str, steps: tuple[int, ...]) -> None:
    shares = coefficients(steps, weights)
    assert shares.shape == (len(steps),)
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1, abs=1e-12)


def test_every_shape_that_decays_to_zero_can_be_emulated() -> None:
    assert set(WEIGHTS) == {"uniform"} | {name for name, shape in SHAPES.items() if shape(0.5, 0.0) < 1} - {
        "exponential"
    }


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_average_is_where_sgd_on_the_same_gradients_at_decayed_rates_ends(weights: str) -> None:
    rng = np.random.default_rng(0)
    gradients, lr = rng.normal(size=(STEPS[-1] - STEPS[0], 5)), 0.03
    start = rng.normal(size=5)
    trajectory = start - lr * np.cumsum(np.vstack([np.zeros(5), gradients]), axis=0)
    checkpoints = trajectory[np.array(STEPS) - STEPS[0]]
    in_interval = [1 - i / 4 for i in (1, 2, 3)] if weights == "uniform" else fractions(STEPS, weights)
    decayed = start - (lr * np.repeat(in_interval, 100)[:, None] * gradients).sum(0)
    np.testing.assert_allclose(coefficients(STEPS, weights) @ checkpoints, decayed, rtol=1e-12, atol=1e-12)


def test_with_a_checkpoint_an_update_the_decay_is_followed_update_by_update() -> None:
    rng = np.random.default_rng(1)
    gradients = rng.normal(size=(50, 3))
    trajectory = -np.cumsum(np.vstack([np.zeros(3), gradients]), axis=0)
    rates = [SHAPES["cosine"](i / 50, 0.0) for i in range(1, 51)]
    np.testing.assert_allclose(
        coefficients(range(51), "cosine") @ trajectory, -(np.array(rates) @ gradients), rtol=1e-10
    )
