"""The switch that adds control arms: which runs it adds to a sweep, under which overrides, and which it does not."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any, cast

import pytest

from sweep.config import RunConfig, params
from sweep.domain.errors import Refusal
from sweep.planning.controls import constant_of, expanded
from sweep.planning.names import run_folder, run_key, run_name
from tests.composing import composed


def sweep(*points: str, known: set[tuple[str, str]] | None = None) -> list[tuple[tuple[str, ...], RunConfig]]:
    words = [tuple(point.split()) for point in points]
    known = set() if known is None else known
    return [
        (overrides, config) for overrides, config, _ in expanded(words, lambda words: composed(*words), known=known)
    ]


def names(*points: str) -> list[str]:
    return [run_name(config) for _, config in sweep(*points)]


def test_two_lengths_get_one_none_one_merge_and_a_constant_each() -> None:
    assert names("anneal.steps=250 controls=all", "anneal.steps=1000 controls=all") == [
        "tiny-s@2000 none",
        "tiny-s@2000 merge uniform last=4",
        "tiny-s@2000 constant 250",
        "tiny-s@2000 linear 250",
        "tiny-s@2000 constant 1000",
        "tiny-s@2000 linear 1000",
    ]


def test_without_the_switch_nothing_is_added_or_said() -> None:
    assert sweep("anneal.steps=250")[0][0] == ("anneal.steps=250",)
    assert names("anneal.steps=250") == ["tiny-s@2000 linear 250"]


def test_a_control_that_is_a_point_already_is_not_added() -> None:
    assert names(
        "anneal.shape=linear controls=all", "anneal.shape=constant controls=all", "anneal=none controls=all"
    ) == [
        "tiny-s@2000 merge uniform last=4",
        "tiny-s@2000 linear 1000",
        "tiny-s@2000 constant 1000",
        "tiny-s@2000 none",
    ]


def test_points_that_differ_in_the_decay_alone_share_one_constant() -> None:
    points = ("anneal.shape=sqrt", "anneal.peak_scale=2", "anneal.peak_lr=1e-3", "anneal.final_fraction=0.1",
              "anneal.hold_steps=10")  # fmt: skip
    found = names(*(f"{point} controls=[constant]" for point in points))
    assert [name for name in found if "constant" in name] == ["tiny-s@2000 constant 1000"]


def test_what_is_not_the_learning_rate_makes_another_constant() -> None:
    points = ("seed=1", "anneal.weight_decay=0", "data.position=fresh", "checkpoint.step=1000")
    found = names(*(f"{point} controls=[constant]" for point in points))
    assert [name for name in found if "constant" in name] == [
        "tiny-s@2000 constant 1000 seed=1",
        "tiny-s@2000 constant 1000 wd=0",
        "tiny-s@2000 constant 1000 fresh",
        "tiny-s@1000 constant 1000",
    ]


def test_a_checkpoint_is_scored_once_whatever_its_anneals_differ_in() -> None:
    points = ("seed=1", "data.position=fresh", "anneal=constant", "checkpoint.step=1000", "tasks.limit=5")
    found = names(*(f"{point} controls=[none]" for point in points))
    assert [name for name in found if "none" in name] == [
        "tiny-s@2000 none", "tiny-s@1000 none", "tiny-s@2000 none limit=5"
    ]  # fmt: skip


def test_a_later_batch_knows_the_earlier_ones() -> None:
    known: set[tuple[str, str]] = set()
    sweep("anneal.steps=250 controls=[none]", known=known)
    assert [run_name(c) for _, c in sweep("anneal.steps=500 controls=[none]", known=known)] == [
        "tiny-s@2000 linear 500"
    ]


def test_two_sweeps_each_have_their_own() -> None:
    found = sweep("name=one controls=[none]", "name=two controls=[none]")
    assert [(config.name, config.anneal.arm) for _, config in found] == [
        ("one", "none"), ("one", "decay"), ("two", "none"), ("two", "decay")
    ]  # fmt: skip


@pytest.mark.parametrize("experiment", ["", "experiment=steps "])
def test_the_words_of_a_control_make_that_run_alone_and_the_same_as_by_hand(experiment: str) -> None:
    found = sweep(f"{experiment}anneal.steps=250 anneal.peak_scale=0.5 seed=1 controls=all")
    by_hand = {
        "none": ("anneal=none",),
        "merge": ("anneal=merge",),
        "constant": ("anneal=constant", "anneal.steps=250", "seed=1"),
        "decay": ("anneal.steps=250", "anneal.peak_scale=0.5", "seed=1"),
    }
    assert {config.anneal.arm for _, config in found} == set(by_hand)
    for words, config in found:
        assert composed(*words) == config
        assert config.controls == (), "an added run adds none itself, also when its overrides are run again"
        assert config.anneal.name == config.anneal.arm
        hand = composed(*by_hand[config.anneal.arm])
        assert run_key(config) == run_key(hand)
        assert run_folder(config) == run_folder(hand)


def test_the_twin_of_an_anneal_is_its_constant_control() -> None:
    config = composed("anneal.steps=250", "anneal.peak_scale=0.5", "anneal.hold_steps=20")
    assert run_key(constant_of(config)) == run_key(composed("anneal=constant", "anneal.steps=250"))


def test_a_trajectory_too_short_for_the_merge_goes_without_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert names("checkpoint.step=500 controls=all") == [
            "tiny-s@500 none", "tiny-s@500 constant 1000", "tiny-s@500 linear 1000"
        ]  # fmt: skip
    assert "controls: no merge beside tiny-s@500 linear 1000: anneal.merge.last=4 needs 4 checkpoints" in caplog.text


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ("none", "controls=none: must be all, or a list of none, merge, constant; .. adds none"),
        ("[none,merges]", "'merges' is not one of none, merge, constant .did you mean merge"),
    ],
)
def test_a_control_that_doesnt_exist_is_refused(chosen: str, complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        composed(f"controls={chosen}")


def test_the_switch_is_no_choice_of_a_run() -> None:
    assert run_key(composed("controls=all")) == run_key(composed())


def test_every_choice_that_decides_an_anneal_is_in_its_key() -> None:
    keys = {
        run_key(composed(*word.split())) for word in ("seed=1", "data.position=fresh", "anneal.shape=sqrt", "seed=0")
    }
    assert len(keys) == 4


def test_what_an_untrained_run_does_not_have_is_not_in_its_key(tmp_path: Path) -> None:
    bare = run_key(composed("anneal=none"))
    for word in ("seed=1", "data.position=fresh", "anneal.shape=sqrt", "anneal.peak_lr=1e-4", "data.dtype=uint32"):
        assert run_key(composed("anneal=none", word)) == bare
    for word in (
        "tasks.limit=5",
        "checkpoint.step=1000",
        "compute.threads=2",
        f"data.heldout={tmp_path}",
        "data.tokenizer=allenai/dolma2-tokenizer",
    ):
        assert run_key(composed("anneal=none", word)) != bare
    merges = {
        run_key(composed("anneal=merge", f"anneal.merge.{word}")) for word in ("last=3", "weights=sqrt", "interval=7")
    }
    assert len(merges | {bare, run_key(composed("anneal=merge"))}) == 5


def test_the_arm_is_a_param_to_compare_by() -> None:
    arms = {option: params(composed(f"anneal={option}"))["arm"] for option in ("decay", "none", "constant", "merge")}
    assert arms == {option: option for option in arms}
    shown = params(composed("anneal=merge", "anneal.merge.last=3"))
    assert (shown["anneal.merge.last"], shown["anneal.merge.weights"]) == (3, "uniform")
    plain = cast(Any, composed())
    assert dataclasses.replace(plain.anneal, shape="constant").arm == "constant"


def test_arms_without_updates_can_stand_beside_anneals_that_hold_and_warm_up() -> None:
    shaped = ("anneal.hold_steps=10", "anneal.warmup_steps=10", "anneal.peak_scale=2")
    assert run_key(composed("anneal=none", *shaped)) == run_key(composed("anneal=none"))
    assert names(f"{' '.join(shaped)} anneal.steps=50 controls=all") == [
        "tiny-s@2000 none",
        "tiny-s@2000 merge uniform last=4",
        "tiny-s@2000 constant 50",
        "tiny-s@2000 linear 50 scale=2 warmup=10 hold=10",
    ]


def test_with_a_fresh_optimizer_the_constant_arm_has_the_same_way_up() -> None:
    fresh = "anneal.optimizer=fresh anneal.warmup_steps=10 anneal.peak_lr=1e-3 anneal.steps=50"
    [(_, constant), (_, decay)] = sweep(f"{fresh} controls=[constant]")
    assert (constant.anneal.shape, constant.anneal.peak_lr, constant.anneal.warmup_steps) == ("constant", 1e-3, 10)
    assert run_key(constant_of(decay)) == run_key(constant)


def test_weights_of_the_hub_need_no_optimizer_to_be_scored_or_averaged() -> None:
    for option in ("none", "merge"):
        assert composed("model=datadecide-4m", f"anneal={option}").anneal.arm == option


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("anneal=none", "anneal.steps=100"), "anneal.steps=100 is not for anneal=none.*controls=.none"),
        (("anneal=constant", "anneal.shape=sqrt"), "anneal.shape=sqrt is not for anneal=constant.*controls=.constant"),
    ],
)
def test_an_arm_is_not_turned_into_an_anneal_by_what_is_beside_it(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        composed(*words)


@pytest.mark.parametrize("beside", ["anneal.final_fraction=0.1", "anneal.hold_steps=10"])
def test_a_constant_point_is_the_control_whatever_its_decay_would_be(beside: str) -> None:
    points = (f"anneal.shape={shape} {beside} controls=[constant]" for shape in ("linear", "constant"))
    found = sweep(*points)
    assert [config.anneal.arm for _, config in found] == ["decay", "constant"]
    assert run_folder(constant_of(found[0][1])) == run_folder(found[1][1])
