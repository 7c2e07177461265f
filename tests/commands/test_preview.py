"""What a sweep will do and cost, told at the door from the configuration alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sweep.commands.preview import draw, lrs, points
from sweep.domain.errors import Refusal
from sweep.planning.gpu_memory import Pass, memory_bytes
from sweep.planning.model_sizes import Sizes
from sweep.planning.plan import make_plan
from sweep.planning.pretraining_schedule import expected_position
from sweep.planning.run_cost import forecast
from tests.composing import composed
from tests.doors import sweep


def shown(*overrides: str) -> str:
    return draw([forecast(config) for config in points(overrides)])


def test_learning_rates_are_plain_numbers_and_nothing_else(tmp_path: Path) -> None:
    words = ("anneal.steps=300", "anneal.shape=sqrt", "anneal.hold_steps=20")
    printed = sweep("preview", *words, "--lrs", cwd=tmp_path)
    assert (printed.returncode, printed.stderr) == (0, "")
    config = composed(*words)
    planned = make_plan(config, expected_position(config.model, 2000)).learning_rates
    np.testing.assert_array_equal([float(line) for line in printed.stdout.splitlines()], planned, "to the last bit")
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


def test_help_teaches(tmp_path: Path) -> None:
    text = sweep("preview", "--help", cwd=tmp_path).stdout
    assert "sweep preview model=olmo-7b anneal=olmo1 --lrs > rates.txt" in text
    assert "give anneal.peak_lr" in text


@pytest.mark.parametrize("words", [["anneal.steps=7"], ["model=olmo-7b", "anneal=olmo1", "--lrs"], ["--help"]])
def test_no_heavy_package_is_loaded(words: list[str], tmp_path: Path) -> None:
    packages = sweep("preview", *words, cwd=tmp_path).packages
    assert "hydra" in packages and not {"torch", "olmo", "mlflow", "lm_eval", "transformers"} & packages


def test_every_point_of_a_sweep_has_a_row() -> None:
    text = shown("anneal.steps=250,1000", "anneal.shape=linear,sqrt")
    assert "4 runs" in text
    for name in ("linear 250", "sqrt 250", "linear 1000", "sqrt 1000"):
        assert f"tiny-s@2000 {name} " in text
    assert len(points(["experiment=steps"])) == 10, "a standard sweep's own axes"
    assert len(points(["model=tiny-s,tiny-m", "checkpoint.step=500,1000"])) == 4
    assert len(points(["anneal.betas=[0.9,0.95],[0.9,0.99]"])) == 2
    assert len(points(["anneal.steps=5,5"])) == 1, "a point twice is one"


def test_controls_have_rows_of_their_own() -> None:
    arms = [config.anneal.arm for config in points(["anneal.steps=250", "controls=all", "checkpoint.step=2000"])]
    assert sorted(arms) == ["constant", "decay", "merge", "none"]
    assert "tiny-s@2000 none" in shown("anneal=none")
    (fresh,) = points(["model=datadecide-4m", "anneal=none"])
    assert forecast(fresh).tokens == 0, "what trains nothing needs no learning rate and no optimizer"
    words = ("anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-3", "controls=[constant]")
    constant, decay = points(["model=datadecide-4m", *words])
    np.testing.assert_array_equal(forecast(constant).learning_rates[:9], forecast(decay).learning_rates[:9])
    assert set(forecast(constant).learning_rates[9:]) == {1e-3}
    kept, _ = points(["anneal.peak_scale=2", "anneal.warmup_steps=9", "controls=[constant]"])
    assert set(forecast(kept).learning_rates) == {4e-3}, "the current LR, which needs no way up"


def test_the_published_recipe_costs_what_the_paper_says() -> None:
    (config,) = points(["model=olmo-7b", "anneal=olmo1"])
    found = forecast(config)
    assert found.tokens == 1000 * 2160 * 2048
    assert found.tokens_seen is not None
    assert round(found.tokens / found.tokens_seen, 4) == 0.0018
    assert found.flops == pytest.approx(found.tokens * (6 * 6_682_050_560 + 12 * 32 * 4096 * 2048))
    text = shown("model=olmo-7b", "anneal=olmo1")
    for figure in ("2.254e-05", "2.3e-05", "2.3e-08", "4.42e+09", "0.18%", "1.9e+20", "82.7 GB to download"):
        assert figure in text


def test_memory_is_that_of_the_chosen_settings() -> None:
    words = ("model=olmo-7b", "compute.precision=bf16", "compute.micro_batch_size=2")
    (config,) = points([*words, "compute.activation_checkpointing=true"])
    memory = forecast(config).memory
    assert memory is not None
    sizes = Sizes(d_model=4096, num_layers=32, kv_width=4096, hidden_size=22016, embedding_size=50304, tied=False)
    work = Pass(sequence_length=2048, micro_batch_size=2, bf16=True, activation_checkpointing=True)
    by_hand = memory_bytes(sizes, work, ranks=8)
    assert memory[3] == by_hand.total
    assert memory == tuple(sorted((size for size in memory if size), reverse=True))
    text = shown(*words, "anneal.batch_size=4")
    assert "micro_batch_size=2, batch of 4" in text
    assert "– (8 ranks)" in text, "a batch of 4 can't be shared by 8"


def test_sizes_of_the_anneals_own_count() -> None:
    (config,) = points(["anneal.batch_size=8", "anneal.sequence_length=128", "data.position=fresh"])
    assert forecast(config).tokens == 1000 * 8 * 128


def test_what_only_a_checkpoint_knows_is_a_dash(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    text = shown("model=local", f"checkpoint.path={tmp_path}", "anneal.peak_lr=1e-4")
    table, _, sums = text.partition("\n\n")
    assert table.count("–") == 4, "current LR, tokens, share, FLOPs"
    assert "tokens    –" in sums and "– core-hours" in sums
    assert "local: on disk" in text
    text = shown("model=datadecide-4m", "anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-3")
    assert "datadecide-4m: 6,964,288 parameters, weights alone, from the Hub" in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("anneal.steps=-3", "anneal.steps=-3: must not be negative"),
        ("anneal.steps=250,-3", "anneal.steps=-3: must not be negative"),
        (
            "model=olmo-7b checkpoint.step=555000",
            "current LR of olmo-7b at step 555000 is known .* give anneal.peak_lr",
        ),
        (
            "model=olmo-7b checkpoint.step=555000 anneal.peak_lr=1e-5 anneal.warmup_steps=3",
            "give anneal.peak_lr, without anneal.warmup_steps or with anneal.optimizer=fresh",
        ),
        (
            "model=olmo2-1b checkpoint.step=1000 checkpoint.source=hub anneal.optimizer=fresh anneal.warmup_steps=9",
            "give anneal.peak_lr, e.g. .* which the schedule of olmo2-1b says for this step",
        ),
        ("anneal.peak_scale=100", "anneal.peak_scale=100.0 times the current LR"),
        ("anneal.sequence_length=512 data.position=fresh", "the model has 384 positions, so at most 384"),
        ("anneal.sequence_length=128", "data.position=continue goes on .* allowed: data.position=fresh"),
    ],
)
def test_it_refuses_what_the_run_would(words: str, complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        shown(*words.split())


def test_learning_rates_are_those_of_one_run() -> None:
    with pytest.raises(Refusal, match="--lrs prints one run's learning rates, and these overrides are 2 runs"):
        lrs(points(["anneal.steps=3,4"]))


def test_recipes_of_one_name_are_models_of_their_own() -> None:
    words = ("anneal.steps=100", "anneal.optimizer=fresh", "anneal.warmup_steps=9", "anneal.peak_lr=1e-3")
    text = shown("model=datadecide-150m", "model.published.recipe=c4,dclm-baseline", *words)
    assert "another run's state" not in text
    assert "2 before" in text and "2 after" in text, "each is scored"


def test_a_sweeper_without_designs_is_refused() -> None:
    with pytest.raises(Refusal, match=r"hydra/sweeper=basic: .*allowed: hydra/sweeper=planned"):
        shown("hydra/sweeper=basic", "anneal.steps=2,3")


def test_a_refusal_is_a_message_and_not_a_traceback(tmp_path: Path) -> None:
    for words, complaint in {"anneal.stepss=3": "did you mean steps", "model=tiny-xl": "did you mean tiny-l"}.items():
        refused = sweep("preview", words, "--lrs", cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert complaint in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_merge_says_what_the_earlier_checkpoints_weigh() -> None:
    text = shown("model=olmo-1b", "anneal=none,merge")
    assert "14.1 GB to download a checkpoint\n" in text
    assert "14.1 GB to download a checkpoint, and 4.7 GB for the weights of each of the 3 before it\n" in text
