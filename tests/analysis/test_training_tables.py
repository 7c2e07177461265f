"""Tables of somebody's trainings: what annealing gained, and the predicted loss of anneals that were not made."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from bench.olmo_wsd_table import KIND, olmo_wsd, outcomes

from sweep.analysis.annealed_curves import Annealed, fit_annealed_curves, noise_along
from sweep.analysis.outcomes import Outcome
from sweep.analysis.signal_to_noise import SeedNoise
from sweep.analysis.training_tables import (
    CHECKPOINT,
    SAME_STEP,
    AnnealGain,
    TableAnswers,
    annealed_curves,
    table_answers,
    training_table,
)
from tests.analysis.published import SHARED, needs_data
from tests.analysis.simulated import cosine_training

C4 = Outcome("loss", "c4")
MEANS = ("loss/c4", "bits_per_byte/tasks9", "bits_per_byte/mmlu", "acc_norm/tasks8", "acc_norm/mmlu")


@cache
def published() -> pd.DataFrame:
    return olmo_wsd(SHARED / "olmo_wsd")


@cache
def answers() -> TableAnswers:
    return table_answers(training_table(published(), MEANS), MEANS[:2])


def gain(training: str, checkpoint: str, outcome: str) -> AnnealGain:
    (found,) = [g for g in answers().gains if (g.training, g.checkpoint, g.outcome) == (training, checkpoint, outcome)]
    return found


@needs_data
@pytest.mark.parametrize(
    ("training", "checkpoint", "outcome", "first", "second"),
    [
        ("1B", "10xC", "loss/c4", 2.9366, 2.8318),
        ("1B", "10xC", "bits_per_byte/tasks9", 0.9862, 0.9474),
        ("1B", "10xC", "bits_per_byte/mmlu", 1.1090, 1.0515),
        ("1B", "10xC", "acc_norm/mmlu", 0.3432, 0.3636),
        ("1B", "10xC", "acc_norm/tasks8", 0.5599, 0.5806),
        ("190M", "1xC", "loss/c4", 3.6679, 3.5749),
        ("190M", "1xC", "bits_per_byte/tasks9", 1.3107, 1.2866),
        ("190M", "1xC", "acc_norm/mmlu", 0.2564, 0.2594),
        ("370M", "10xC", "bits_per_byte/mmlu", 1.3121, 1.2402),
        ("370M", "10xC", "acc_norm/mmlu", 0.2922, 0.2884),
    ],
)
def test_published_anneals_against_the_training_as_it_went_on(
    training: str, checkpoint: str, outcome: str, first: float, second: float
) -> None:
    found = gain(training, checkpoint, outcome)
    assert (round(found.first, 4), round(found.second, 4)) == (first, second)
    assert (found.against, found.verdict) == (SAME_STEP, ""), "no standard errors, so nothing is tested"


@needs_data
def test_all_published_anneals_lower_the_loss_and_the_bits_per_byte_of_nine_tasks() -> None:
    for outcome in MEANS[:2]:
        assert [g.improves for g in answers().gains if g.outcome == outcome] == [True] * 15


@needs_data
def test_published_models_are_in_nearly_the_same_order_before_and_after() -> None:
    as_is = {d.outcome: d for d in answers().ranking.decisions if d.reference == "loss/c4" and d.cost_percent == 0}
    assert as_is["loss/c4"].accuracy == 104 / 105 and as_is["acc_norm/mmlu"].accuracy == pytest.approx(98 / 105)


@needs_data
def test_the_loss_of_long_published_anneals_is_predicted_from_short_ones() -> None:
    """Fitted on 0.5, 1 and 2xC: c4 at 5 and 10xC within 0.01 nats, all eleven losses within their intervals."""
    rows = published()
    late = rows["checkpoint"].isin(["5xC", "10xC"])
    losses = [name for name in outcomes() if name.startswith("loss/")]
    whole, short = training_table(rows, losses), training_table(rows[~late], losses)
    for outcome in short.outcomes:
        curves = annealed_curves(short, outcome, KIND)
        assert curves is not None
        for anneal in (a for a in whole.anneals if a.checkpoint in ("5xC", "10xC")):
            begun = whole.progress(anneal.training, [anneal.rows["step"].iloc[0]])[0]
            value, low, high = curves.predict(anneal.training, float(begun))
            measured = float(anneal.rows[outcome.name].iloc[-1])
            assert low <= measured <= high
            assert outcome != C4 or abs(value - measured) < 0.01


def test_a_law_follows_the_real_schedule_before_the_checkpoint() -> None:
    table = training_table(cosine_training(), ["loss/c4"])
    curves = annealed_curves(table, C4, "anneal")
    assert curves is not None and curves.alpha == pytest.approx(0.4, abs=1e-3)
    by_steps = fit_annealed_curves(
        [
            Annealed(
                "training", np.arange(100.0, 1001, 100), np.array([a.rows["loss/c4"].iloc[-1] for a in table.anneals])
            )
        ],
        None,
    )
    assert by_steps is not None and by_steps.residual_sd > 100 * curves.residual_sd


def test_an_anneal_is_compared_with_its_checkpoint_and_with_its_training_at_the_same_step() -> None:
    rows = cosine_training(noise=0.01).assign(**{"stderr/loss/c4": 0.002})
    found = table_answers(training_table(rows, ["loss/c4"]), ["loss/c4"]).gains
    first = [g for g in found if g.checkpoint == "step100"]
    assert [(g.against, g.first_step, g.step, g.tokens) for g in first] == [
        (CHECKPOINT, 100, 150, 400.0),
        (SAME_STEP, 100, 150, 400.0),
    ]
    assert {g.verdict for g in found} <= {"better", "worse", "not told apart"} and first[0].verdict == "better"


def test_the_intervals_of_predicted_losses_hold() -> None:
    rng, hits, places = np.random.default_rng(0), 0, 2.0 ** np.arange(-1, 3)
    for _ in range(100):
        alpha, trainings, ends = rng.uniform(0.2, 0.7), [], []
        for size in "abc":
            losses = 2 + rng.uniform(0.3, 0.6) * places**-alpha + 0.002 * rng.normal(size=4)
            trainings.append(Annealed(size, places[:3], losses[:3]))
            ends.append(losses[3])
        curves = fit_annealed_curves(trainings, SeedNoise(0.002 * np.sqrt(rng.chisquare(40) / 40), 40))
        assert curves is not None
        spans = [curves.predict(size, float(places[3])) for size in "abc"]
        hits += sum(low <= end <= high for (_, low, high), end in zip(spans, ends, strict=True))
    assert 0.91 < hits / 300 < 0.99


def test_too_few_anneals_give_no_law_and_noise_is_seen_along_a_training() -> None:
    three = Annealed("a", np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.8, 2.7]))
    assert fit_annealed_curves([three], None) is None, "three parameters and three losses"
    assert fit_annealed_curves([three], SeedNoise(0.01, 20)) is not None
    noise = noise_along([3 - 0.001 * np.arange(400) + np.random.default_rng(0).normal(0, 0.01, 400)])
    assert noise is not None and noise.sd == pytest.approx(0.01, rel=0.15)
    assert noise_along([np.array([3.0, 2.9, 2.8])]) is None
