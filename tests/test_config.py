"""Every choice that can't be run is refused at the door, naming the key, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from sweep.cli import CONF, typed
from sweep.config import RunConfig, params
from sweep.refusal import Refusal


def composed(*overrides: str) -> RunConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("config", overrides=list(overrides)))


def test_the_default_is_the_embedded_model_on_its_own_data() -> None:
    config = composed()
    assert (config.model.name, config.data.name, config.tasks.name) == ("tiny-s", "original", "core8")
    assert config.checkpoint.step == config.model.checkpoint_step


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("anneal.steps=0", "anneal.steps=0: must be at least 1"),
        ("anneal.steps=-5", "anneal.steps=-5: must be at least 1"),
        ("anneal.steps=ten", "anneal.steps=ten"),
        ("anneal.steps=2.5", "anneal.steps=2.5"),
        ("anneal.shape=lienar", "anneal.shape=lienar.*is not one of linear, cosine, sqrt.*did you mean linear"),
        ("anneal.peak_lr=-1e-3", "anneal.peak_lr=-0.001: must be above 0 and at most 0.1"),
        ("anneal.peak_lr=3", "anneal.peak_lr=3: must be above 0"),
        ("anneal.peak_lr=nan", "anneal.peak_lr=nan: must be a finite number"),
        ("anneal.peak_scale=0", "anneal.peak_scale=0"),
        ("anneal.final_fraction=1.5", "anneal.final_fraction=1.5: must be between 0 and 1"),
        ("anneal.hold_steps=1000", "anneal.hold_steps=1000 must be from 0 to anneal.steps - 1 = 999"),
        ("anneal.shape=exponential", "anneal.shape=exponential never reaches 0: give anneal.final_fraction"),
        ("tasks.suites.core8.metrics.arc_hard=acc", "'arc_hard' is not one of arc_challenge.*did you mean arc_easy"),
        ("tasks.suites.core8.metrics.piqa=f1", "'f1' is not one of acc, acc_norm"),
        ("tasks.suites.core8.metrics.piqa=perplexity", "'perplexity' is not one of acc, acc_norm"),
        ("tasks.suites.core8.split=test", "split=test is not one that core8 has: validation"),
        ("tasks.suites.core8.num_fewshot=5", "num_fewshot=5 is not allowed for core8: from 0 to 0"),
        ("tasks=mmlu tasks.suites.mmlu.num_fewshot=6", "num_fewshot=6 is not allowed for mmlu: from 0 to 5"),
        ("tasks=olmes tasks.suites.olmes.num_fewshot=0", "num_fewshot=0 is not allowed for olmes: from 5 to 5"),
        ("tasks=core8-olmo1 tasks.suites.core8-olmo1.documents=1", "documents=1: must be at least 2"),
        ("tasks=loss tasks.heldout=false", "there is nothing to score"),
        ("tasks.source=disk", "tasks.source=disk"),
        ("tasks.limit=0", "tasks.limit=0: must be at least 2"),
        (
            "checkpoint.step=1999",
            "checkpoint.step=1999 is not a checkpoint of tiny-s.*from 500 to 8000; nearest: 1500, 2000",
        ),
        ("checkpoint.step=0", "checkpoint.step=0: must be at least 1"),
        ("checkpoint.path=/x", "checkpoint.path=/x goes with model=local"),
        ("model=local checkpoint.path=/nowhere", "checkpoint.path=/nowhere is not an OLMo unsharded checkpoint"),
        ("model=local", "model=local needs checkpoint.path"),
        ("seed=-1", "seed=-1: must not be negative"),
        ("compute.device=tpu", "compute.device=tpu"),
        ("compute.threads=0", "compute.threads=0: must be at least 1"),
    ],
)
def test_it_is_refused(override: str, complaint: str) -> None:
    extra = "+" if "arc_hard" in override else ""
    with pytest.raises(Refusal, match=complaint):
        composed(*(extra + override).split())


def test_a_union_is_a_list_of_options() -> None:
    both = composed("tasks=[core8,mmlu]").tasks
    assert both.name == "core8+mmlu"
    assert both.metrics == composed().tasks.metrics | {"mmlu": "acc"}
    assert both.tasks()["mmlu"].split == "test" and both.tasks()["piqa"].split == "validation"


def test_the_protocols_limit_and_ones_own_are_the_smaller() -> None:
    paper = "tasks=core8-olmo1"
    assert composed(paper).tasks.tasks()["boolq-olmo1"].limit == 1000
    assert composed(paper, "tasks.limit=7").tasks.tasks()["boolq-olmo1"].limit == 7
    assert composed(paper, "tasks.limit=7000").tasks.tasks()["boolq-olmo1"].limit == 1000


def test_unconditional_requests_are_made_where_the_metric_needs_them() -> None:
    asked = {name for name, task in composed("tasks=core8-olmo1").tasks.tasks().items() if task.unconditional}
    assert asked == {"arc_easy-olmo1", "arc_challenge-olmo1", "openbookqa-olmo1"}


def test_olmes_name_of_a_metric_is_understood() -> None:
    assert composed("tasks.suites.core8.metrics.piqa=acc_raw").tasks.metrics["piqa"] == "acc"


def test_a_task_of_ones_own_is_added_by_name() -> None:
    config = composed("tasks=custom", "tasks.include=/folder", "+tasks.suites.custom.metrics.mine=acc")
    task = config.tasks.tasks()["mine"]
    assert (task.protocol, task.include, task.num_fewshot, task.split) == ("custom", "/folder", None, None)


def test_a_peak_given_twice_is_refused() -> None:
    with pytest.raises(Refusal, match=r"anneal\.peak_lr=0\.001 and anneal\.peak_scale=0\.5 contradict"):
        composed("anneal.peak_lr=1e-3", "anneal.peak_scale=0.5")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refusal) as refusal:
        composed("anneal.steps=0", "seed=-1", "tasks.limit=1")
    assert len(str(refusal.value).splitlines()) == 3


def test_the_configuration_is_frozen() -> None:
    config: Any = composed()
    with pytest.raises(AttributeError):
        config.anneal.steps = 3


def test_params_carry_the_dotted_names_of_the_overrides() -> None:
    shown = params(composed("anneal.steps=7", "seed=2"))
    assert (shown["anneal.steps"], shown["seed"], shown["model"], shown["anneal"]) == (7, 2, "tiny-s", "decay")
    assert {"anneal.shape", "anneal.peak_lr", "anneal.final_fraction", "checkpoint.step", "data", "tasks"} <= set(shown)
