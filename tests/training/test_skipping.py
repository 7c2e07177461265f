"""Which updates are skipped: those far above the ones before, decided as in OLMo-core's SkipStepOptimizer."""

from __future__ import annotations

import dataclasses

import numpy as np

from sweep.domain.records import StepRecord
from sweep.training.skipping import Skipping, SkipRule

RULE = SkipRule(sigma=6.0, window=16, of_norms=True)


def records(losses: list[float]) -> list[StepRecord]:
    made = StepRecord(update=1, lr=0.1, loss=0.0, grad_norm=1.0, param_norm=1.0, tokens=1, seconds=0.0)
    return [dataclasses.replace(made, loss=loss, grad_norm=1 + loss / 100) for loss in losses]


def losses(number: int) -> list[float]:
    return list(2 + 0.1 * np.random.default_rng(0).standard_normal(number))


def test_a_high_loss_or_gradient_is_skipped_once_half_a_window_is_known() -> None:
    for before, loss, norm, skipped in (
        (7, 9.0, 1.0, True),
        (7, 2.0, 9.0, True),
        (7, 2.0, 1.02, False),
        (6, 9.0, 1.0, False),
        (7, float("nan"), 1.0, True),
    ):
        assert Skipping(RULE, records(losses(before))).skips(loss, norm) is skipped, (before, loss, norm)
    assert not Skipping(dataclasses.replace(RULE, of_norms=False), records(losses(7))).skips(2.0, 9.0)


def test_what_is_far_back_or_skipped_itself_counts_as_in_olmo_core() -> None:
    skipping = Skipping(RULE, records([50.0, *losses(16)]))
    assert skipping.skips(4.0, 1.02), "the first loss is out of the window"
    assert not skipping.skips(4.0, 1.02), "a skipped loss is in the mean of the next"


def test_going_on_decides_as_without_a_break() -> None:
    values = [*losses(20), 9.0, *losses(3)]
    whole = Skipping(RULE, [])
    decided = [whole.skips(loss, 1 + loss / 100) for loss in values]
    assert sum(decided) == 1
    for done in (5, 20, 21):
        later = Skipping(RULE, records(values[:done]))
        assert [later.skips(loss, 1 + loss / 100) for loss in values[done:]] == decided[done:]
