"""The report puts the measure first that anneals move by more of its errors, and says why."""

from __future__ import annotations

import pandas as pd
import pytest

from sweep.analysis.leading import in_order, leads
from sweep.analysis.outcomes import Outcome, reported_outcomes, suite_members

BITS, ACCURACY = Outcome("mean_bits_per_byte", "core8"), Outcome("mean", "core8")


def anneals(*, bits: float, accuracy: float, seeds: tuple[float, ...] = (0.0,)) -> pd.DataFrame:
    """Runs of a setting with errors of 0.01 over documents, whose accuracies differ by seed."""
    columns = {"checkpoint": "c", "seed": range(len(seeds)), "anneal.steps": 100, "model.parameters": 262_144}
    runs = pd.DataFrame({**columns, "tasks.suites.core8.metrics.piqa": "acc_norm"})
    for outcome, delta in ((BITS, pd.Series(bits, runs.index)), (ACCURACY, accuracy + pd.Series(seeds))):
        runs = runs.assign(
            **{outcome.column("delta"): delta, outcome.stderr("delta"): 0.01, outcome.column("after"): 1.0}
        )
    return runs.assign(**{"before/mean_above_chance/core8": 0.012, "after/bits_per_byte/piqa": 1.0})


@pytest.mark.parametrize(
    ("runs", "first", "why"),
    [
        (anneals(bits=-0.2, accuracy=0.005), BITS, "bits per byte of the right answers comes first. The middle anneal"),
        (anneals(bits=-0.02, accuracy=0.05), ACCURACY, "accuracy comes first. The middle anneal moves it by 5 times"),
        (anneals(bits=-0.02, accuracy=0.05, seeds=(-0.04, 0.0, 0.04)), BITS, "and accuracy by 1.2 times"),
        (anneals(bits=-0.2, accuracy=0.005)[:0], BITS, "Bits per byte comes first"),
    ],
)
def test_what_moves_by_more_of_its_errors_comes_first(runs: pd.DataFrame, first: Outcome, why: str) -> None:
    outcomes = reported_outcomes(runs)
    (lead,) = leads(runs, ["anneal.steps", "seed"], outcomes)
    assert lead.first == in_order(outcomes, [lead])[0] == first
    assert why in lead.why


def test_an_accuracy_near_chance_is_said_to_be() -> None:
    (lead,) = leads(anneals(bits=-0.2, accuracy=0.005), [], [BITS, ACCURACY])
    assert lead.why.endswith("Accuracy is near chance: 1.2 % of the way from guessing to all right.")


def test_the_mean_bits_per_byte_has_the_bits_of_its_tasks_as_members() -> None:
    assert suite_members(anneals(bits=-0.2, accuracy=0.0), [BITS]) == {BITS: (Outcome("bits_per_byte", "piqa"),)}
