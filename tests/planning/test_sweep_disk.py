"""The disk that a sweep needs, counted by hand on small ones."""

from __future__ import annotations

from sweep.commands.preview import planned, points, preview
from sweep.planning.sweep_disk import DOCUMENTS, RECORD_BYTES, Disk, disk

STATE = 12 * 262_144
"""Of tiny-s."""


def needed(*words: str, **known: object) -> Disk:
    return disk(points(["tasks=loss", *words]), **known)  # type: ignore[arg-type]


def test_each_anneal_that_is_kept_is_a_state_and_a_run_under_way_has_one_more() -> None:
    found = needed("anneal.steps=1000,2000", "anneal.shape=linear,sqrt", "anneal.save_interval=250")
    assert (found.kept, found.passing) == (4 * STATE, STATE), "the last state and one before it are on disk at a time"
    assert needed("anneal.steps=1000,2000", "anneal.save_interval=250", "anneal.keep=false").passing == 2 * STATE
    short = needed("anneal.steps=200", "anneal.save_interval=250")
    assert (short.kept, short.passing) == (STATE, 0), "nothing is saved before the end"
    assert needed("anneal.steps=200", "anneal.save_interval=250", "anneal.keep=false").passing == STATE


def test_what_runs_share_is_counted_once() -> None:
    tasks = needed("anneal.steps=100", "tasks=core8,loss")
    assert tasks.kept == STATE
    assert tasks.scores == 2 * 8 * DOCUMENTS * RECORD_BYTES
    held = needed("anneal.steps=100", "anneal.hold_steps=60", "anneal.shape=linear,sqrt")
    assert held.kept == 3 * STATE, "two anneals and the hold that they share"
    assert needed("anneal.steps=100", "seed=1,2").kept == 2 * STATE


def test_an_anneal_that_is_in_the_store_takes_no_more_room() -> None:
    found = needed("anneal.steps=100,200", made={0})
    assert found.kept == STATE
    assert needed("anneal.steps=100,200", made={0, 1}).own == 0


def test_checkpoints_are_those_that_are_downloaded_or_pretrained() -> None:
    assert needed("checkpoint.step=500,1000", "anneal.steps=10", "seed=1,2").checkpoints == (1 + 2) * STATE
    assert needed("model=olmo-7b", "anneal=olmo1").checkpoints == 12 * 6_888_095_744


def test_a_size_that_only_the_disk_tells_is_unknown_or_told() -> None:
    config = points(["tasks=loss", "anneal.steps=10"])[0]
    unknown = disk([_of_unknown_size(config)])
    assert (unknown.kept, unknown.own) == (None, None)
    assert disk([_of_unknown_size(config)], local={"/a": 99}).own == 99


def _of_unknown_size(config):
    from dataclasses import replace

    model = replace(config.model, source="local", parameters=None, architecture=None, pretraining=None)
    return replace(config, model=model, checkpoint=replace(config.checkpoint, path="/a", step=None))


def test_the_preview_tells_the_disk() -> None:
    text = preview(planned(["anneal.steps=1000,2000", "tasks=loss"]))
    assert "\ndisk      6.3 MB kept, 3.1 MB more for each run under way, " in text
