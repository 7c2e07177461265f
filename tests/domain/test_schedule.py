"""Shapes are fractions of the peak over progress; arrays of learning rates follow OLMo's count from 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from olmo.config import TrainConfig
from olmo.optim import ConstantWithWarmupScheduler, CosLinearEnvelope, CosWithWarmup, LinearWithWarmup, build_scheduler

from sweep.domain.schedule import Warmup, learning_rates, warmup_then_constant
from sweep.domain.shapes import SHAPES
from sweep.planning.plan import planned_rates
from tests.composing import composed

FINALS = st.floats(0.001, 1.0)
PEAKS = st.floats(1e-6, 1e-1)
ULPS = 2
"""Of the peak: what two ways to write one formula may differ by."""
AREAS: dict[str, Callable[[float], float]] = {
    "linear": lambda f: (1 + f) / 2,
    "cosine": lambda f: (1 + f) / 2,
    "sqrt": lambda f: f + (1 - f) / 3,
    "square": lambda f: f + (1 - f) * 2 / 3,
    "exponential": lambda f: (f - 1) / math.log(f),
    "mirror_cosine": lambda f: (1 + f) / 2,
    "cosine_linear": lambda f: f + (1 - f) * (1 / 4 + 1 / math.pi**2),
    "constant": lambda f: 1.0,
}
"""Integral of each shape over progress, as a function of the final fraction below 1."""


@st.composite
def chosen(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `learning_rates` besides the shape."""
    parts = [draw(st.integers(least, 60)) for least in (0, 0, 1)]
    peak = draw(PEAKS)
    return {
        "steps": sum(parts),
        "warmup": Warmup(steps=parts[0], start=draw(st.floats(0, 2)) * peak),
        "hold_steps": parts[1],
        "peak": peak,
        "final_fraction": draw(FINALS),
    }


def close(found: np.ndarray, expected: Any, peak: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=ULPS * np.spacing(peak))


@pytest.mark.parametrize("shape", SHAPES)
@given(final=FINALS)
def test_it_starts_at_the_peak_and_ends_at_the_final_fraction(shape: str, final: float) -> None:
    fraction = SHAPES[shape]
    assert fraction(0.0, final) == 1.0
    assert fraction(1.0, final) == (1.0 if shape == "constant" else final)


@pytest.mark.parametrize("shape", SHAPES)
@given(final=FINALS, progress=st.lists(st.floats(0, 1), min_size=2))
def test_it_never_rises_and_stays_between_the_final_fraction_and_one(
    shape: str, final: float, progress: list[float]
) -> None:
    values = [SHAPES[shape](p, final) for p in sorted(progress)]
    assert all(b <= a + ULPS * np.spacing(1.0) for a, b in itertools.pairwise(values))
    assert all(final <= value + ULPS * np.spacing(1.0) and value <= 1 for value in values)


@pytest.mark.parametrize("shape", SHAPES)
@given(anneal=chosen())
def test_an_array_is_a_line_to_the_peak_then_the_hold_then_the_decay(shape: str, anneal: dict[str, Any]) -> None:
    rates, peak, start = learning_rates(shape, **anneal), anneal["peak"], anneal["warmup"].start
    rising, held, falling = np.split(rates, np.cumsum([anneal["warmup"].steps, anneal["hold_steps"]]))
    assert len(rates) == anneal["steps"]
    close(rising, [start + (peak - start) * i / len(rising) for i in range(1, len(rising) + 1)], peak)
    assert all(rate == peak for rate in [*rising[-1:], *held]), "exactly"
    assert all(b <= a + ULPS * np.spacing(peak) for a, b in itertools.pairwise([peak, *falling]))
    assert falling[-1] == peak * (1 if shape == "constant" else anneal["final_fraction"]), "exactly"


@pytest.mark.parametrize("shape", SHAPES)
@given(anneal=chosen(), longer=st.integers(1, 50), other=st.sampled_from(sorted(SHAPES)))
def test_arrays_share_their_warmup_and_hold_whatever_follows(
    shape: str, anneal: dict[str, Any], longer: int, other: str
) -> None:
    shared = anneal["warmup"].steps + anneal["hold_steps"]
    further = learning_rates(other, **{**anneal, "steps": anneal["steps"] + longer, "final_fraction": 0.5})
    np.testing.assert_array_equal(learning_rates(shape, **anneal)[:shared], further[:shared])
    held = learning_rates(
        shape, **{**anneal, "steps": anneal["steps"] + longer, "hold_steps": anneal["hold_steps"] + longer}
    )
    np.testing.assert_array_equal(
        held[: shared + longer], learning_rates("constant", **{**anneal, "steps": shared + longer})
    )


@pytest.mark.parametrize("shape", SHAPES)
@given(final=st.floats(0.001, 0.99), steps=st.integers(1, 500))
def test_the_mean_rate_is_the_area_under_the_shape(shape: str, final: float, steps: int) -> None:
    mean = learning_rates(shape, steps=steps, peak=1.0, final_fraction=final).mean()
    # a sum over the right ends of N steps of what never rises lies below, by at most what it falls by over N
    assert AREAS[shape](final) - (1 - final) / steps - 1e-12 <= mean <= AREAS[shape](final) + 1e-12


@pytest.mark.parametrize(
    ("shape", "scheduler"),
    [("linear", LinearWithWarmup), ("cosine", CosWithWarmup), ("cosine_linear", CosLinearEnvelope)],
)
@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("rising", [0, 30])
def test_it_equals_ai2_olmos_scheduler(shape: str, scheduler: type, final: float, rising: int) -> None:
    theirs = scheduler(
        grad_clip_warmup_steps=None,
        grad_clip_warmup_factor=None,
        warmup_min_lr=1e-5,
        warmup_steps=rising,
        alpha_f=final,
    )
    expected = [theirs.get_lr(3e-4, step, 100) for step in range(1, 101)]
    warmup = Warmup(steps=rising, start=1e-5)
    rates = learning_rates(shape, steps=100, peak=3e-4, final_fraction=final, warmup=warmup)
    below = max(rising - 1, 0)
    np.testing.assert_array_equal(rates[:below], expected[:below], "what lies below the peak to the last bit")
    close(rates, expected, 3e-4)


def core_linear_decay(peak: float, step_from_end: int, decay_steps: int, decay_min_lr: float) -> float:
    """OLMo-core `optim/scheduler.py` at 014c4c62, `_linear_decay`, as a formula."""
    return decay_min_lr + (peak - decay_min_lr) * min(step_from_end, decay_steps) / decay_steps


def core_wsd(peak: float, step: int, max_steps: int, *, warmup_steps: int, decay_steps: int, low: float) -> float:
    """The same file's `WSD.get_lr`: warmup from 0, the peak, a straight line to `low`."""
    if step <= warmup_steps:
        return peak * min(step, warmup_steps) / warmup_steps
    if step >= max_steps - decay_steps:
        return core_linear_decay(peak, max_steps - step, decay_steps, low)
    return peak


def core_cosine(peak: float, step: int, max_steps: int, *, warmup_steps: int, low: float) -> float:
    """The same file's `CosWithWarmup.get_lr`, with `warmup_min_lr` 0 and alpha_f low/peak."""
    if step < warmup_steps:
        return peak * min(step, warmup_steps) / warmup_steps
    if step >= max_steps:
        return low
    return low + (peak - low) * (1 + math.cos(math.pi * (step - warmup_steps) / (max_steps - warmup_steps))) / 2


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_it_equals_olmo_cores_formulas(final: float) -> None:
    peak, low = 4e-4, 4e-4 * final
    expected = [core_wsd(peak, s, 100, warmup_steps=20, decay_steps=50, low=low) for s in range(1, 101)]
    close(
        learning_rates("linear", steps=100, peak=peak, final_fraction=final, warmup=Warmup(steps=20), hold_steps=30),
        expected,
        peak,
    )
    expected = [core_cosine(peak, s, 100, warmup_steps=20, low=low) for s in range(1, 101)]
    close(learning_rates("cosine", steps=100, peak=peak, final_fraction=final, warmup=Warmup(steps=20)), expected, peak)


def test_warmup_equals_ai2_olmos_scheduler() -> None:
    theirs = ConstantWithWarmupScheduler(
        grad_clip_warmup_steps=None, grad_clip_warmup_factor=None, warmup_min_lr=None, warmup_steps=10
    )
    expected = [theirs.get_lr(4e-3, step, 50) for step in range(1, 51)]
    np.testing.assert_allclose(warmup_then_constant(50, peak=4e-3, warmup_steps=10), expected, rtol=1e-12)


def test_olmo1_is_the_published_recipe_update_for_update() -> None:
    """The flags of allenai/OLMo at commit 87a8b702, in ai2-olmo's own scheduler, step by step as its trainer counts."""
    flags = {"name": "linear_with_warmup", "t_warmup": 556000, "t_max": 557000, "alpha_f": 0.001}
    config = TrainConfig.new(
        model={}, optimizer={"name": "adamw", "learning_rate": 0.000023}, scheduler=flags, stop_at=557001
    )
    scheduler, peak = build_scheduler(config), config.optimizer.learning_rate
    # `fit` adds 1 to the loaded step before an update takes its rate, and ends after the update that reaches stop_at
    assert config.stop_at is not None
    theirs = [scheduler.get_lr(peak, step, 739_328) for step in range(556001, config.stop_at + 1)]
    ours = planned_rates(composed("model=olmo-7b", "checkpoint.step=556000", "anneal=olmo1").anneal, 2.254e-5)
    assert len(ours) == 1000
    assert max(abs(ours - theirs[:1000])) <= np.spacing(peak), "one ulp of the peak"
    assert (ours[-1], ours[-1]) == (theirs[999], theirs[1000]), "step 557000 ends the decay, step 557001 stays there"


def test_a_decay_to_zero_ends_at_exactly_zero() -> None:
    for shape in ("linear", "cosine", "sqrt", "square", "mirror_cosine", "cosine_linear"):
        assert learning_rates(shape, steps=7, peak=1e-3)[-1] == 0.0, shape


def test_hold_steps_run_at_the_peak_before_the_decay() -> None:
    rates = learning_rates("linear", steps=6, peak=1.0, hold_steps=2)
    np.testing.assert_allclose(rates, [1, 1, 0.75, 0.5, 0.25, 0])


def test_warmup_steps_run_from_the_start_to_the_peak() -> None:
    np.testing.assert_allclose(
        learning_rates("linear", steps=7, peak=1.0, warmup=Warmup(steps=4, start=0.2)),
        [0.4, 0.6, 0.8, 1, 2 / 3, 1 / 3, 0],
    )


def test_a_longer_constant_array_begins_with_the_shorter_one() -> None:
    np.testing.assert_array_equal(
        warmup_then_constant(500, peak=1e-3, warmup_steps=100)[:250],
        warmup_then_constant(250, peak=1e-3, warmup_steps=100),
    )
