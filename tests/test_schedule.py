"""Shapes are fractions of the peak over progress; arrays of learning rates follow OLMo's count from 1."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from olmo.optim import ConstantWithWarmupScheduler, CosLinearEnvelope, CosWithWarmup, LinearWithWarmup

from sweep.schedule import SHAPES, learning_rates, warmup

FINALS = st.floats(0.001, 1.0)


@pytest.mark.parametrize("shape", SHAPES)
@given(final=FINALS)
def test_it_starts_at_the_peak_and_ends_at_the_final_fraction(shape: str, final: float) -> None:
    fraction = SHAPES[shape]
    assert fraction(0.0, final) == pytest.approx(1.0)
    assert fraction(1.0, final) == pytest.approx(1.0 if shape == "constant" else final)


@pytest.mark.parametrize("shape", SHAPES)
@given(final=FINALS, progress=st.lists(st.floats(0, 1), min_size=2))
def test_it_never_rises_and_stays_between_the_final_fraction_and_one(
    shape: str, final: float, progress: list[float]
) -> None:
    values = [SHAPES[shape](p, final) for p in sorted(progress)]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(values))
    assert all(final - 1e-12 <= value <= 1 + 1e-12 for value in values)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("linear", 1 / 2),
        ("cosine", 1 / 2),
        ("sqrt", 1 / 3),
        ("square", 2 / 3),
        ("mirror_cosine", 1 / 2),
        ("constant", 1.0),
    ],
)
def test_the_area_under_a_decay_to_zero(shape: str, area: float) -> None:
    assert learning_rates(shape, steps=20_000, peak=1.0).mean() == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "scheduler"),
    [("linear", LinearWithWarmup), ("cosine", CosWithWarmup), ("cosine_linear", CosLinearEnvelope)],
)
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_it_equals_ai2_olmos_scheduler(shape: str, scheduler: type, final: float) -> None:
    theirs = scheduler(
        grad_clip_warmup_steps=None, grad_clip_warmup_factor=None, warmup_min_lr=None, warmup_steps=0, alpha_f=final
    )
    expected = [theirs.get_lr(3e-4, step, 100) for step in range(1, 101)]
    np.testing.assert_allclose(
        learning_rates(shape, steps=100, peak=3e-4, final_fraction=final), expected, rtol=1e-12, atol=1e-18
    )


def test_warmup_equals_ai2_olmos_scheduler() -> None:
    theirs = ConstantWithWarmupScheduler(
        grad_clip_warmup_steps=None, grad_clip_warmup_factor=None, warmup_min_lr=None, warmup_steps=10
    )
    expected = [theirs.get_lr(4e-3, step, 50) for step in range(1, 51)]
    np.testing.assert_allclose(warmup(50, peak=4e-3, warmup_steps=10), expected, rtol=1e-12)


def test_a_decay_to_zero_ends_at_exactly_zero() -> None:
    for shape in ("linear", "cosine", "sqrt", "square", "mirror_cosine", "cosine_linear"):
        assert learning_rates(shape, steps=7, peak=1e-3)[-1] == 0.0, shape


def test_hold_steps_run_at_the_peak_before_the_decay() -> None:
    rates = learning_rates("linear", steps=6, peak=1.0, hold_steps=2)
    np.testing.assert_allclose(rates, [1, 1, 0.75, 0.5, 0.25, 0])


def test_a_longer_constant_array_begins_with_the_shorter_one() -> None:
    np.testing.assert_array_equal(
        warmup(500, peak=1e-3, warmup_steps=100)[:250], warmup(250, peak=1e-3, warmup_steps=100)
    )
