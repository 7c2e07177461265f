"""Ranking: pairs in the same order, ties, intervals that hold, and the cheapest score that does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sweep.analysis.candidates import sweep_ranking
from sweep.analysis.factors import varying_axes
from sweep.analysis.outcomes import Outcome
from sweep.analysis.ranking import AS_IS, Ranking, Scoring, agreement, decision_accuracy, interval, rank, unpaired
from sweep.analysis.ranking_findings import ranking_sentences

LOSS, ACC = Outcome("loss", "heldout"), Outcome("acc", "arc_easy")


def scoring(values: list[float], *, anneal: str = AS_IS, tokens: float = 0.0, stderr: float = np.nan) -> Scoring:
    return Scoring(anneal=anneal, outcome="acc/piqa", sign=1, tokens=tokens, values=np.array(values),
                   errors=unpaired(np.full(len(values), stderr)))  # fmt: skip


def test_pairs_are_counted_and_ties_are_ties() -> None:
    longest = scoring([1.0, 2.0, 3.0, 3.05], anneal="long", tokens=100, stderr=0.1)
    seen = scoring([1.0, 1.0, 0.0, 4.0], anneal="short", tokens=5)
    decision = decision_accuracy(longest, seen)
    assert decision is not None and (decision.pairs, decision.ties) == (5, 1), "3.0 and 3.05 can't be told apart"
    assert decision.accuracy == (0.5 + 0 + 1 + 0 + 1) / 5, "equal scores are right in half of the cases"
    assert decision.cost_percent == 5 and decision.low < decision.accuracy < decision.high
    exact = decision_accuracy(scoring([1.0, 2.0, 3.0, 3.05], anneal="long", tokens=100), seen)
    assert exact is not None and exact.ties == 0, "without standard errors only equal scores are ties"


def test_less_is_better_where_the_outcome_says_so_and_a_missing_score_is_left_out() -> None:
    longest = Scoring(anneal="long", outcome="loss", sign=-1, tokens=9, values=np.array([3.0, 2.0, 1.0, np.nan]),
                      errors=unpaired(np.full(4, np.nan)))  # fmt: skip
    decision = decision_accuracy(longest, scoring([1.0, 2.0, 3.0, 0.0]))
    assert decision is not None and (decision.candidates, decision.accuracy) == (3, 1.0)
    assert decision_accuracy(scoring([1.0, 2.0]), scoring([1.0, 2.0])) is None, "a single pair tells nothing"
    assert decision_accuracy(scoring([1.0] * 3), scoring([1.0, 2.0, 3.0])) is None, "nothing is told apart"


@pytest.mark.parametrize(("candidates", "noise"), [(4, 0.3), (6, 1.5), (12, 0.6), (30, 0.3)])
def test_the_interval_holds_the_accuracy_for_new_candidates(candidates: int, noise: float) -> None:
    rng, sweeps = np.random.default_rng(0), 200
    first, second = rng.normal(size=(2, 100_000))
    wrong = rng.normal(size=100_000) * noise * np.sqrt(2)
    truth = np.mean(np.sign(first - second) == np.sign(first - second + wrong))
    hits = 0
    for _ in range(sweeps):
        quality = rng.normal(size=candidates)
        seen = quality + noise * rng.normal(size=candidates)
        low, high = interval(agreement(scoring([*quality], anneal="long", tokens=1), scoring([*seen])))
        hits += low <= truth <= high
    assert hits / sweeps > 0.91  # 0.95 less two and a half standard errors


def test_the_cheapest_score_that_does_is_recommended() -> None:
    rng = np.random.default_rng(1)
    quality = np.arange(10.0)
    scorings = [
        scoring([*rng.permutation(10.0 * quality)]),
        scoring([*(quality + rng.normal(0, 0.4, 10))], anneal="anneal.steps=250", tokens=250),
        scoring([*quality], anneal="anneal.steps=1000", tokens=1000),
        scoring([*quality], anneal="anneal.steps=4000", tokens=4000),
    ]
    ranking = rank([f"c{i}" for i in range(10)], scorings, ["acc/piqa"], ["acc/piqa"])
    (recommendation,) = ranking.recommendations
    chosen = recommendation.chosen
    assert (chosen.anneal, chosen.longest) == ("anneal.steps=250", "anneal.steps=4000")
    assert chosen.accuracy >= 0.9 and chosen.cost_percent == 6.25
    assert recommendation.checked is not None and recommendation.checked >= 0.9
    assert recommendation.as_is is not None and recommendation.as_is.accuracy < 0.9
    assert [place.candidate for place in ranking.places[:2]] == ["c9", "c8"]
    order, advice = ranking_sentences(ranking, {"acc/piqa": Outcome("acc", "piqa")})
    assert order.startswith(
        "Acc of piqa: of 10 checkpoints c9 is the best after the longest anneal (anneal.steps=4000)"
    )
    assert advice.startswith("Anneal with anneal.steps=250 and look at acc of piqa: it orders 100 % (95 % interval ")
    assert "of the pairs of 10 checkpoints" in advice and "at 6.2 % of the cost. As they are, acc of piqa" in advice


def runs(lengths: tuple[int, ...], checkpoints: int, seeds: int = 2) -> pd.DataFrame:
    """Checkpoints that as they are look the better the earlier they are; annealing turns the order the longer it is."""
    rows = []
    for step in range(checkpoints):
        for steps in lengths:
            for seed in range(seeds):
                wiggle = 0.001 * (2 * seed - 1)
                turned = step * (steps / max(lengths) - 0.3) + wiggle
                rows.append({"checkpoint": f"digest{step}", "checkpoint_name": f"toy@{step}", "status": "finished"}
                            | {"arm": "decay", "checkpoint.step": step, "anneal.steps": steps, "anneal": "decay"}
                            | {"cost/tokens": 8.0 * steps, "seed": seed, "before/acc/arc_easy": -0.1 * step}
                            | {"after/acc/arc_easy": turned, "stderr/after/acc/arc_easy": 0.001}
                            | {"stderr/before/acc/arc_easy": 0.001})  # fmt: skip
    return pd.DataFrame(rows)


def test_a_sweep_over_checkpoints_is_ranked_by_each_length() -> None:
    sweep = runs((10, 40, 100), checkpoints=5)
    axes = varying_axes(sweep, ["checkpoint.step", "anneal.steps"])
    ranking = sweep_ranking(sweep, axes, [ACC], [ACC])
    accuracy = {decision.anneal: decision.accuracy for decision in ranking.decisions}
    assert accuracy == {AS_IS: 0.0, "anneal.steps=10": 0.0, "anneal.steps=40": 1.0}
    (recommendation,) = ranking.recommendations
    assert (recommendation.chosen.anneal, recommendation.chosen.cost_percent) == ("anneal.steps=40", 40.0)
    assert ranking.places[0].candidate == "toy@4" and ranking.places[0].place_as_is == 5
    assert sweep_ranking(sweep, axes, [LOSS], [LOSS]) == Ranking(), "an outcome that nothing has"
    assert sweep_ranking(runs((10, 100), checkpoints=2), axes, [ACC], [ACC]) == Ranking()
