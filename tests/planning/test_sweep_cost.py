"""What a sweep costs in all, counted by hand on small ones, and what its points share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sweep.commands.preview import planned, points, preview
from sweep.planning.run_cost import forecast
from sweep.planning.sweep_cost import Bill, bill
from sweep.sweeps.points import Composer, typed
from sweep.sweeps.run_folders import folder_of
from sweep.tracking import Journal
from tests.composing import composed


def billed(*words: str, done: tuple[int, ...] = ()) -> Bill:
    return bill([forecast(config) for config in points(words)], done)


def test_a_constant_run_starts_where_a_shorter_one_ended() -> None:
    found = billed("anneal.shape=constant", "anneal.steps=10,30,40")
    assert (found.updates, found.shared_updates) == (80, 10 + 30)
    assert billed("anneal.shape=linear", "anneal.steps=10,30,40").shared_updates == 0
    assert billed("anneal.shape=constant", "anneal.steps=10,30,40", "anneal.keep=false").shared_updates == 0
    assert billed("anneal.shape=constant", "anneal.steps=10,30,40", "seed=0,1").shared_updates == 80


def test_a_hold_is_done_once() -> None:
    found = billed("anneal.steps=100", "anneal.hold_steps=60", "anneal.shape=linear,sqrt,cosine")
    assert (found.updates, found.shared_updates) == (300, 120)
    assert found.tokens == 180 * forecast(composed("anneal.steps=1")).tokens


def test_before_scores_are_those_of_checkpoints_and_not_of_points() -> None:
    found = billed("checkpoint.step=1000,2000", "anneal.steps=10,20", "seed=0,1", "controls=[none]")
    assert (found.points, found.before, found.after) == (10, 2, 8), "the arm without training is its checkpoint's score"
    twice = billed("anneal.steps=10", "tasks=core8,loss")
    assert (twice.before, twice.after, twice.shared_updates) == (2, 2, 10), "another task set trains nothing"


def test_what_is_done_costs_nothing_and_is_shared() -> None:
    whole = billed("anneal.shape=constant", "anneal.steps=10,30")
    rest = billed("anneal.shape=constant", "anneal.steps=10,30", done=(0,))
    assert (rest.done, rest.updates, rest.shared_updates, rest.before, rest.after) == (1, 30, 10, 0, 1)
    assert rest.flops is not None and whole.flops is not None and rest.flops == pytest.approx(whole.flops * 20 / 30)
    assert billed("anneal.steps=10", done=(0,)).core_hours == 0


def test_hours_are_those_stated_of_the_model() -> None:
    small = billed("anneal.steps=1000")
    stated = composed("anneal.steps=1000").model.resources
    assert stated is not None and small.core_hours is not None
    assert small.core_hours * 60 == pytest.approx(stated.minutes_per_1000_updates + 2 * stated.minutes_per_task_set)
    large = billed("model=olmo-7b", "anneal=olmo1", "anneal.batch_size=null")
    stated = composed("model=olmo-7b", "anneal=olmo1").model.resources
    assert stated is not None and large.gpu_hours is not None
    took = stated.minutes_per_1000_updates + 2 * stated.minutes_per_task_set
    assert large.gpu_hours * 60 == pytest.approx(8 * took) and large.core_hours == 0


def test_the_share_of_pretraining_is_of_the_furthest_checkpoint() -> None:
    one = billed("anneal.steps=200", "checkpoint.step=2000")
    assert one.share == pytest.approx(0.1)
    two = billed("anneal.steps=200", "checkpoint.step=1000,2000")
    assert two.share == pytest.approx(0.2)


def test_the_preview_marks_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = planned(["anneal.steps=10,20"])
    with Journal(folder_of(first.place)) as journal:
        journal.write(
            "outcome",
            status="finished",
            error=None,
            result={"key": first.key, "after": [], "final_state": "0" * 32, "params": {}},
        )
    text = preview([first, second])
    assert "2 runs, 1 done, 1 to run" in text and "steps     20\n" in text
    assert [line.rstrip("│ ").endswith("done") for line in text.splitlines() if "linear" in line] == [True, False]
    assert sorted(os.listdir(tmp_path)) == ["multirun"], "looking leaves nothing behind"


@pytest.mark.parametrize(
    "words",
    [
        "model=tiny-m anneal.steps=5 seed=3",
        "tasks=[core8,mmlu] anneal=olmo1 model=olmo-7b anneal.steps=7",
        "+tasks.suites.custom.metrics.mine=acc tasks=custom anneal.betas=[0.9,0.99]",
        "experiment=grid checkpoint.step=1000",
        "anneal=none name=other",
    ],
)
def test_a_point_is_composed_as_hydra_composes_it(words: str) -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from sweep.commands.main import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
        composer = Composer(loader, master)
        composer(["anneal.steps=77"])
        assert composer(words.split()) == typed(loader.load_sweep_config(master, words.split()))
