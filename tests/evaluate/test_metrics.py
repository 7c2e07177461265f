"""Every metric against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sweep.config import tasks as config
from sweep.evaluate import metrics
from sweep.evaluate.metrics import available, chance, choices, values

UNCOND = "unconditional_log_probability"


def records(*rows: tuple[Any, ...], unconditional: list[float] | None = None) -> metrics.Choices:
    """Rows of document, choice, log-probability, tokens, characters, bytes, gold; a space in front of each."""
    names = ("document", "choice", "log_probability", "tokens", "characters", "bytes", "gold")
    columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    columns["delimiter"] = np.ones(len(rows), dtype=np.int8)
    if unconditional is not None:
        columns[UNCOND] = np.array(unconditional)
    return choices(columns)


def test_the_configuration_names_these_metrics() -> None:
    of_text_alone = {"perplexity"}
    assert set(config.CHOICE_METRICS) == set(metrics.METRICS)
    assert set(config.CONTINUATION_METRICS) <= set(metrics.METRICS) | of_text_alone
    assert set(config.UNCONDITIONAL) == metrics.UNCONDITIONAL


LN2 = math.log(2)
TWO = records(
    (0, 0, -6 * LN2, 3, 2, 5, False),
    (0, 1, -8 * LN2, 2, 7, 3, True),
    unconditional=[-5 * LN2, -9 * LN2],
)
"""Gold has probability 1/256, the other 1/64."""
PER_TOKEN = (2**-2, 2**-4)
PER_CHAR = (2**-2, 2**-1)  # 6/3 and 8/8 bits, the space counted
PER_CHARACTER = (2**-3, 2 ** (-8 / 7))  # 6/2 and 8/7 bits, without the space


@pytest.mark.parametrize(
    ("metric", "expected"),
    {
        "acc": 0,  # -6 > -8
        "acc_norm": 1,  # 3 bits a character against 8/7
        "acc_bytes": 0,  # 6/5 bits a byte against 8/3
        "acc_per_token": 0,  # 2 against 4
        "acc_per_char": 1,  # 6/3 against 8/8
        "acc_per_byte": 0,  # 6/6 against 8/4
        "acc_uncond": 1,  # -6 + 5 = -1 against -8 + 9 = 1
        "correct_prob": 2**-8,
        "correct_prob_per_token": PER_TOKEN[1],
        "correct_prob_per_char": PER_CHAR[1],
        "norm_correct_prob": 1 / 5,  # 1/256 of 1/64 + 1/256
        "norm_correct_prob_per_token": PER_TOKEN[1] / sum(PER_TOKEN),
        "norm_correct_prob_per_char": PER_CHAR[1] / sum(PER_CHAR),
        "soft_norm": PER_CHARACTER[1] / sum(PER_CHARACTER),
        "soft_log": math.log(1 / 5),
        "soft_log_norm": math.log(PER_CHARACTER[1] / sum(PER_CHARACTER)),
        "soft_log_per_char": math.log(PER_CHAR[1] / sum(PER_CHAR)),
        "margin": 2**-8 - 2**-6,
        "margin_per_token": PER_TOKEN[1] - PER_TOKEN[0],
        "margin_per_char": PER_CHAR[1] - PER_CHAR[0],
        "bits_per_byte": 8 / 3,
        "bits_per_byte_corr": 8 / 4,
        "brier_score": (4 / 5) ** 2 + (1 / 5 - 1) ** 2,
    }.items(),
)
def test_a_metric(metric: str, expected: float) -> None:
    assert values(TWO, metric) == pytest.approx([expected], rel=1e-12)


def test_every_metric_has_a_fixture() -> None:
    (mark,) = (m for m in test_a_metric.pytestmark if m.name == "parametrize")
    assert {metric for metric, _ in mark.args[1]} == set(metrics.METRICS)


def test_uncond_is_a_difference_and_not_a_ratio() -> None:
    # ai2-olmo 0.6.0's pmi_dc: -5 / -10 = 0.5 < -20 / -10 = 2 picks the worse option
    trap = records((0, 0, -5.0, 1, 1, 1, True), (0, 1, -20.0, 1, 1, 1, False), unconditional=[-10.0, -10.0])
    assert values(trap, "acc_uncond") == [1]


def test_the_space_in_front_decides_between_lm_eval_and_olmes() -> None:

    tie = records((0, 0, -2.0, 1, 1, 1, False), (0, 1, -5.0, 1, 3, 3, True))
    assert values(tie, "acc_norm") == [1]  # -2 against -1.67
    assert values(tie, "acc_per_char") == [0]  # -1 against -1.25
    assert values(tie, "acc_bytes") == [1]
    assert values(tie, "acc_per_byte") == [0]


def test_bytes_are_not_characters() -> None:
    accented = records((0, 0, -4.0, 1, 4, 4, False), (0, 1, -5.0, 1, 4, 8, True))
    assert values(accented, "acc_norm") == [0]
    assert values(accented, "acc_bytes") == [1]
    assert values(accented, "bits_per_byte") == pytest.approx([5 / 8 / LN2])
    assert values(accented, "bits_per_byte_corr") == pytest.approx([5 / 9 / LN2])


def test_the_first_choice_wins_a_tie() -> None:
    tie = records(
        *((0, 0, -2.0, 1, 4, 4, True), (0, 1, -2.0, 1, 4, 4, False)),
        *((1, 0, -2.0, 1, 4, 4, False), (1, 1, -2.0, 1, 4, 4, True)),
    )
    assert values(tie, "acc").tolist() == [1, 0]


def test_documents_may_have_fewer_choices_than_others() -> None:
    uneven = records(
        *((0, 0, -3.0, 1, 1, 1, False), (0, 1, -2.0, 1, 1, 1, False), (0, 2, -1.0, 1, 1, 1, True)),
        *((1, 0, -9.0, 3, 3, 3, True), (1, 1, -9.5, 3, 3, 3, False)),
        unconditional=[-1.0, -1.0, -1.0, -1.0, -1.0],
    )
    for metric in metrics.METRICS:
        assert np.isfinite(values(uneven, metric)).all(), metric
    assert values(uneven, "acc").tolist() == [1, 1]
    assert values(uneven, "norm_correct_prob")[1] == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert chance(uneven) == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_an_empty_right_choice_has_no_bits_per_byte() -> None:
    empty = records((0, 0, -1.0, 1, 0, 0, True), (0, 1, -2.0, 1, 2, 2, False))
    assert "acc" in available(empty) and not [name for name in available(empty) if name.startswith("bits")]


def test_what_the_records_lack_is_named() -> None:
    without = records((0, 0, -1.0, 1, 1, 1, True), (0, 1, -2.0, 1, 1, 1, False))
    assert "acc_uncond" not in available(without) and "acc" in available(without)
    with pytest.raises(ValueError, match="acc_uncond needs the column unconditional_log_probability"):
        values(without, "acc_uncond")


def test_brier_is_lm_evals() -> None:
    from lm_eval.api.metrics import brier_score

    rng = np.random.default_rng(0)
    grid = rng.normal(-20, 5, (50, 4))
    gold = rng.integers(0, 4, 50)
    rows = [(d, c, grid[d, c], 1, 1, 1, c == gold[d]) for d in range(50) for c in range(4)]
    shares = np.exp(grid - grid.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    theirs = brier_score(list(zip(gold, shares, strict=True)))
    assert values(records(*rows), "brier_score").mean() == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("gold", [[False, False], [True, True]])
def test_documents_need_one_gold_choice(gold: list[bool]) -> None:
    with pytest.raises(ValueError, match="one of them gold"):
        records((0, 0, -1.0, 1, 1, 1, gold[0]), (0, 1, -1.0, 1, 1, 1, gold[1]))


def test_a_choice_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="each choice once"):
        records((0, 0, -1.0, 1, 1, 1, True), (0, 0, -1.0, 1, 1, 1, False))
