"""What a published model says of its training agrees with ai2-olmo's own schedulers and with what is on record."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from olmo.config import TrainConfig
from olmo.optim import build_scheduler

from sweep.commands.main import CONF
from sweep.config.published import folder_of
from sweep.domain.errors import Refusal
from sweep.planning.plan import check, make_plan
from sweep.planning.pretraining_schedule import expected_position, pretraining_lr
from tests.composing import composed

PUBLISHED = sorted(p.stem for p in (CONF / "model").glob("*.yaml") if not p.stem.startswith(("hub", "local", "tiny")))
SCHEDULED = [name for name in PUBLISHED if composed(f"model={name}", "anneal=none").model.published.scheduler]


@pytest.mark.parametrize(
    ("name", "step", "lr"),
    [
        ("olmo-7b", 556000, 2.254e-5),  # what the authors annealed from: allenai/OLMo commit 87a8b702
        ("olmo-7b-0424", 477000, 9.785e-5),  # the second stage's learning_rate
        ("olmo2-7b", 928000, 6.1499e-5),  # OLMo2-7B-stage2-seed42.yaml
        ("olmo2-1b", 1907359, 7.4487e-5),  # the second stage's learning_rate
        ("olmo2-13b", 596057, 9e-5),  # OLMo2-13B-stage2-seed1110-100B.yaml
        ("olmo-1b", 2000, 4e-4),  # the end of the warmup
    ],
)
def test_the_learning_rate_at_a_step_is_what_is_on_record(name: str, step: int, lr: float) -> None:
    assert pretraining_lr(composed(f"model={name}", "anneal=none").model, step) == pytest.approx(lr, rel=1e-4)


@pytest.mark.parametrize("name", SCHEDULED)
def test_the_schedule_is_ai2_olmos(name: str) -> None:
    model = composed(f"model={name}", "anneal=none").model
    scheduler = dataclasses.asdict(model.published.scheduler)
    peak = scheduler.pop("peak_lr")
    theirs = build_scheduler(TrainConfig.new(scheduler=scheduler, optimizer={"name": "adamw"}))
    for step in (1, 500, 3000, 100_000, 300_000, 600_000):
        t = step * model.batch_size * model.sequence_length if scheduler["units"] == "tokens" else step
        assert pretraining_lr(model, step) == pytest.approx(theirs.get_lr(peak, t, int(scheduler["t_max"])), rel=1e-12)


def test_where_it_isnt_known_it_isnt_made_up() -> None:
    assert pretraining_lr(composed("model=olmo-7b", "anneal=none").model, 500000) is None
    assert pretraining_lr(composed("model=datadecide-150m", "anneal=none").model, 37500) is None


@pytest.mark.parametrize(
    ("name", "step", "folder"),
    [
        ("olmo-1b", 117850, "czmq3tph"),
        ("olmo-7b", 432410, "ho7jy4ey"),
        ("olmo-7b-0424", 142000, "f42888qx"),
        ("olmo-7b-0424", 142500, None),
        ("olmo-7b-0724", 621100, "kw7yb1r5"),
        ("olmo2-1b", 23100, "peteish1"),
        ("olmo2-13b", 596057, "peteish13"),
        ("olmo-7b", 557000, None),
    ],
)
def test_the_lists_are_the_authors(name: str, step: int, folder: str | None) -> None:
    assert folder_of(composed(f"model={name}", "anneal=none").model.published, step) == folder


@pytest.mark.parametrize(
    "name", ["olmo-1b", "olmo-7b", "olmo-7b-0424", "olmo-7b-0724", "olmo2-1b", "olmo2-7b", "olmo2-13b"]
)
def test_the_stated_size_is_the_models(name: str) -> None:
    from olmo.model import OLMo

    sizes = {
        "olmo-1b": {"d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8, "weight_tying": True},
        "olmo2-1b": {"d_model": 2048, "n_heads": 16, "n_layers": 16, "mlp_ratio": 8},
        "olmo2-13b": {"d_model": 5120, "n_heads": 40, "n_layers": 40, "mlp_hidden_size": 27648},
    }.get(name, {"d_model": 4096, "n_heads": 32, "n_layers": 32, "mlp_hidden_size": 22016})
    second = name.startswith("olmo2")
    norms = {"layer_norm_with_affine": second, "attention_layer_norm": second, "norm_after": second}
    kind = {"layer_norm_type": "rms" if second else "default", "attention_layer_norm_with_affine": second}
    vocabulary = {"vocab_size": 100278, "embedding_size": 100352} if second else {"embedding_size": 50304}
    config = TrainConfig.new(
        model={"weight_tying": False, "activation_type": "swiglu", "rope": True, "include_bias": False,
               "init_device": "meta", **norms, **kind, **vocabulary, **sizes}
    )  # fmt: skip
    with torch.device("meta"):
        model = OLMo(config.model, init_params=False)
    assert sum(p.numel() for p in model.parameters()) == composed(f"model={name}", "anneal=none").model.parameters


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"lr": 3.6e-4},
            r"says that the current LR is 0.00036, the schedule of olmo2-7b says 6.15e-05 .*OLMo#849",
        ),
        ({"tokens": 10**12}, r"says 1,000,000,000,000 tokens were seen, 928000 steps of olmo2-7b are 3,892,3.*#865"),
        ({"step": 927000}, "checkpoint.step=928000, but the checkpoint itself says 927000"),
        ({"batch_size": 512}, "model.batch_size=1024, but the checkpoint itself says 512"),
        ({"lr": 0.0}, "give anneal.peak_lr, e.g. 6.15e-05, which the schedule of olmo2-7b says"),
    ],
)
def test_a_checkpoint_that_contradicts_what_is_published_is_refused(change: dict[str, float], complaint: str) -> None:
    config = composed("model=olmo2-7b", "checkpoint.step=928000")
    position = expected_position(config.model, 928000)
    check(config, dataclasses.replace(position, lr=6.1499e-5))
    with pytest.raises(Refusal, match=complaint):
        check(config, dataclasses.replace(position, **change))


def test_a_batch_that_isnt_stated_isnt_checked() -> None:
    config = composed("model=olmo2-7b", "checkpoint.step=928000", "model.batch_size=null")
    position = expected_position(composed("model=olmo2-7b", "anneal=none").model, 928000)
    assert make_plan(config, dataclasses.replace(position, batch_size=512, tokens=7)).tokens == 1000 * 512 * 4096
