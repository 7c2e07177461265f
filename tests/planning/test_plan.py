"""What follows from a configuration, without a clock, a disk or a GPU."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sweep.domain import cache_versions
from sweep.domain.errors import Refusal
from sweep.planning.commands import override
from sweep.planning.keys import anneal_numerics, numerics, pretraining_base
from sweep.planning.names import label, run_folder, run_key, run_name, run_names, told_apart
from sweep.planning.plan import launch_order, make_plan, training_flops
from sweep.planning.pretraining_schedule import expected_position, pretraining_rates
from tests.composing import composed


def test_the_peak_is_the_learning_rate_in_force() -> None:
    config = composed("anneal.steps=4")
    plan = make_plan(config, expected_position(config.model, 2000))
    np.testing.assert_allclose(plan.learning_rates, [3e-3, 2e-3, 1e-3, 0])
    assert plan.tokens == 4 * 1 * 384


def test_the_peak_is_what_was_given_or_scaled() -> None:
    config = composed("anneal.steps=1", "anneal.shape=constant", "anneal.peak_lr=1e-4")
    position = expected_position(config.model, 2000)
    assert make_plan(config, position).learning_rates[0] == 1e-4
    config = composed("anneal.steps=1", "anneal.shape=constant", "anneal.peak_scale=0.5")
    assert make_plan(config, position).learning_rates[0] == 2e-3


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("step", 1000, "checkpoint.step=2000, but the checkpoint itself says 1000"),
        ("batch_size", 8, "model.batch_size=1, but the checkpoint itself says 8"),
        ("sequence_length", 64, "model.sequence_length=384, but the checkpoint itself says 64"),
        ("lr", 0.0, "anneal.peak_lr=null takes the current LR, which the checkpoint says is 0.0"),
        ("lr", 1e-3, "says that the current LR is 0.001, the schedule of tiny-s says 0.004"),
    ],
)
def test_a_checkpoint_that_contradicts_the_configuration_is_refused(field: str, value: float, complaint: str) -> None:
    config = composed()
    position = dataclasses.replace(expected_position(config.model, 2000), **{field: value})
    with pytest.raises(Refusal, match=complaint):
        make_plan(config, position)


def test_the_trajectory_warms_up_then_stays() -> None:
    config = composed()
    rates = pretraining_rates(config.model, 500)
    assert len(rates) == 500
    assert rates[0] < rates[100] < rates[199] == rates[499] == 4e-3


@pytest.mark.parametrize(
    "override",
    [
        "anneal.steps=999",
        "anneal.shape=cosine",
        "anneal.peak_lr=4e-3",
        "anneal.final_fraction=0.1",
        "anneal.weight_decay=0.0",
        "anneal.max_grad_norm=0.5",
        "anneal.betas=[0.9,0.99]",
        "anneal.z_loss=1e-4",
        "anneal.batch_size=2",
        "anneal.sequence_length=128",
        "anneal=olmo1",
        "checkpoint.step=1000",
        "seed=1",
        "tasks=loss",
        "tasks.limit=9",
        "model=tiny-m",
        "compute.threads=2",
        "compute.precision=bf16",
        "compute.micro_batch_size=1",
        "compute.compile=true",
    ],
)
def test_a_choice_that_changes_numbers_changes_key_and_folder(override: str) -> None:
    assert run_key(composed(override)) != run_key(composed())
    assert run_folder(composed(override)) != run_folder(composed())


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "tracking=none",
        "anneal.save_interval=3",
        "anneal.keep=false",
        "anneal.steps=1000",
        "compute.activation_checkpointing=true",
    ],
)
def test_a_choice_that_changes_no_number_keeps_the_key(override: str) -> None:
    assert run_key(composed(override)) == run_key(composed())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("compute.threads=1", "cpu fp32 1 threads by torch 2 CPU"),
        ("compute.activation_checkpointing=true", "cpu fp32 1 threads by torch 2 CPU"),
        ("compute.micro_batch_size=8", "cpu fp32 1 threads by torch 2 CPU"),
        ("compute.micro_batch_size=4", "cpu fp32 1 threads by torch 2 CPU micro batch 4"),
        ("compute.precision=bf16", "cpu bf16 1 threads by torch 2 CPU"),
        ("compute.compile=true", "cpu fp32 1 threads by torch 2 CPU compiled"),
        ("compute.reuse=any", "cpu fp32 1 threads by torch 2 CPU"),
    ],
)
def test_state_keys_say_what_decides_the_bits_and_nothing_else(override: str, words: str) -> None:
    assert anneal_numerics(composed(override).compute, "cpu", "torch 2 CPU", batch_size=8) == words


def test_on_a_gpu_threads_decide_no_bits() -> None:
    one, two = (composed(f"compute.threads={n}", "compute.device=cuda") for n in (1, 2))
    assert numerics(one.compute, "cuda", "torch 2 GPU") == numerics(two.compute, "cuda", "torch 2 GPU")
    assert run_key(one) == run_key(two)


def test_what_is_only_told_of_a_published_model_keeps_the_key() -> None:
    words = ("model=olmo2-1b", "anneal.peak_lr=1e-4")
    key = run_key(composed(*words))
    for told in ("model.published.cite=corrected", "model.published.data='another text'", "model.resources.mem_gb=9"):
        assert run_key(composed(*words, told)) == key
    published = composed(*words).model.published
    assert published is not None
    more = [*map(list, published.steps), [999, 999, 1000, "peteish1"]]
    assert run_key(composed(*words, override("model.published.steps", more))) == key, "one more published step"
    moved = [[*step[:3], "elsewhere"] for step in published.steps]
    for decides in (override("model.published.steps", moved), "model.published.data_seed=1", "model.batch_size=8"):
        assert run_key(composed(*words, decides)) != key


def test_keys_of_the_release_before_stay_for_runs_whose_choices_are_the_same() -> None:
    """Run keys that stores of that release hold; they change with a number in cache_versions."""
    assert (run_key(composed()), run_key(composed("anneal=none"))) == (
        "67699033b8c4ab30c0d66a443e46e705",
        "d575253b460425dd898ed6f719bb6b72",
    )


def test_the_published_recipe_is_its_settings() -> None:
    spelt = ("anneal.steps=1000", "anneal.shape=linear", "anneal.peak_lr=2.3e-5", "anneal.final_fraction=0.001")
    assert run_key(composed("anneal=olmo1")) == run_key(composed(*spelt))
    elsewhere = composed("anneal=olmo1", "anneal.peak_lr=null")
    rates = make_plan(elsewhere, expected_position(elsewhere.model, 2000)).learning_rates
    assert (len(rates), rates[-1]) == (1000, 4e-3 * 0.001)


def test_a_warmup_goes_from_the_rate_in_force_or_with_a_fresh_optimizer_from_zero() -> None:
    words = ("anneal.steps=5", "anneal.warmup_steps=4")
    kept, fresh = composed(*words, "anneal.peak_scale=2"), composed(*words, "anneal.optimizer=fresh")
    position = expected_position(kept.model, 2000)
    np.testing.assert_allclose(make_plan(kept, position).learning_rates, [5e-3, 6e-3, 7e-3, 8e-3, 0])
    np.testing.assert_allclose(make_plan(fresh, position).learning_rates, [1e-3, 2e-3, 3e-3, 4e-3, 0])
    lower = composed(*words, "anneal.peak_scale=0.5")
    np.testing.assert_allclose(make_plan(lower, position).learning_rates, [3.5e-3, 3e-3, 2.5e-3, 2e-3, 0])


def test_what_trains_nothing_has_no_updates_whatever_else_is_chosen() -> None:
    config = composed("anneal=none", "anneal.hold_steps=5", "anneal.warmup_steps=3", "anneal.optimizer=fresh")
    plan = make_plan(config, expected_position(config.model, 2000))
    assert (len(plan.learning_rates), plan.tokens) == (0, 0)


def test_names_say_the_point_in_a_few_words() -> None:
    assert run_name(composed()) == "tiny-s@2000 linear 1000"
    few = run_name(composed("anneal.shape=sqrt", "anneal.steps=250", "anneal.peak_lr=1e-3", "seed=3", "tasks.limit=50"))
    assert few == "tiny-s@2000 sqrt 250 lr=0.001 seed=3 limit=50"
    more = run_name(
        composed(
            "anneal.optimizer=fresh",
            "anneal.warmup_steps=9",
            "anneal.betas=[0.9,0.99]",
            "anneal.z_loss=0",
            "anneal.batch_size=4",
            "anneal.sequence_length=128",
        )
    )
    assert more == "tiny-s@2000 linear 1000 warmup=9 optimizer=fresh betas=0.9,0.99 z=0 batch=4 length=128"
    assert (label("piqa", None), label("piqa", 50)) == ("piqa", "piqa:50")


def test_flops_are_six_a_parameter_and_token_plus_attention() -> None:
    flops = training_flops(matrix_parameters=1000, num_layers=2, d_model=8, sequence_length=384, tokens=3 * 384)
    assert flops == 3 * 1 * 384 * (6 * 1000 + 12 * 2 * 8 * 384)


def test_constant_runs_go_first_and_short_then_decays_longest_first() -> None:
    points = [("linear", 250), ("constant", 500), ("sqrt", 4000), ("constant", 250), ("linear", 1000)]
    configs = [composed(f"anneal.shape={shape}", f"anneal.steps={steps}") for shape, steps in points]
    ordered = [(c.anneal.shape, c.anneal.steps) for c in sorted(configs, key=launch_order)]
    assert ordered == [("constant", 250), ("constant", 500), ("sqrt", 4000), ("linear", 1000), ("linear", 250)]


def test_a_scale_that_gives_an_absurd_learning_rate_is_refused() -> None:
    config = composed("anneal.peak_scale=100")
    with pytest.raises(Refusal, match=r"anneal\.peak_scale=100\.0 times .* is 0\.4: at most 0\.1"):
        make_plan(config, expected_position(config.model, 2000))


def test_new_content_of_a_named_file_makes_another_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a")
    local = ("model=local", f"checkpoint.path={tmp_path}")
    before = run_key(composed(*local))
    assert run_key(composed(*local)) == before
    (tmp_path / "config.yaml").write_text("another")
    assert run_key(composed(*local)) != before


@pytest.mark.parametrize("revision", ["CORPUS", "NUMERICS", "REQUESTS", "PACK", "ENGINE"])
def test_a_raised_revision_makes_another_run(revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_key(composed())
    monkeypatch.setattr(cache_versions, revision, -1)
    assert run_key(composed()) != before


def test_the_embedded_trajectory_is_named_by_what_its_numbers_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    model, compute = composed().model, composed().compute
    keys = [pretraining_base(model, numerics(compute, device, "torch 2 CPU")) for device in ("cpu", "cuda")]
    keys.append(pretraining_base(model, numerics(composed("compute.threads=2").compute, "cpu", "torch 2 CPU")))
    keys.append(pretraining_base(composed("model=tiny-m").model, numerics(compute, "cpu", "torch 2 CPU")))
    monkeypatch.setattr(cache_versions, "CORPUS", -1)
    keys.append(pretraining_base(model, numerics(compute, "cpu", "torch 2 CPU")))
    assert len(set(keys)) == 5


def test_rows_that_would_read_the_same_say_what_tells_them_apart() -> None:
    one, two, other = composed("compute.threads=1"), composed("compute.threads=2"), composed("seed=1")
    names = run_names([one, two, other])
    assert names[0] == "tiny-s@2000 linear 1000 compute.threads=1"
    assert names[1:] == ["tiny-s@2000 linear 1000 compute.threads=2", "tiny-s@2000 linear 1000 seed=1"]


def test_every_leaf_of_the_model_tells_rows_apart() -> None:
    chosen = [composed(f"model.pretraining.peak_lr={lr}") for lr in (0.002, 0.004)]
    assert run_names(chosen) == [f"tiny-s@2000 linear 1000 model.pretraining.peak_lr={lr}" for lr in (0.002, 0.004)]
    assert run_names([chosen[0], chosen[0]]) == ["tiny-s@2000 linear 1000"] * 2
    keys = ("abcdefghi", "abcdefghj")
    assert told_apart(["n", "n", "n"], [{}, {"a": None}, {}], (*keys, keys[0])) == [
        f"n {key}" for key in (*keys, keys[0])
    ]


def test_a_checkpoints_name_is_one_word(tmp_path: Path) -> None:
    folder = tmp_path / "my own <step>"
    folder.mkdir()
    (folder / "config.yaml").touch()
    config = composed("model=local", f"checkpoint.path='{folder}'", "checkpoint.step=null")
    assert run_name(config) == "local:my_own_<step> linear 1000"


def test_files_that_a_pattern_finds_in_folders_below_count_too(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a.npy").write_bytes(b"12")
    chosen = ("data=local", f"data.paths=['{tmp_path}/**/*.npy']")
    before = run_key(composed(*chosen))
    (tmp_path / "deep" / "er" / "a.npy").write_bytes(b"1234")
    assert run_key(composed(*chosen)) != before
