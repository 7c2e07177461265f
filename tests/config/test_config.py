"""Every choice that can't be run is refused at the door, naming the key, the value and what is allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweep.config import params
from sweep.config.architecture import OTHERS, SIZES
from sweep.domain.errors import Refusal
from tests.composing import composed


def test_the_default_is_the_embedded_model_on_its_own_data() -> None:
    config = composed()
    assert (config.model.name, config.data.name, config.tasks.name) == ("tiny-s", "original", "core8")
    assert config.checkpoint.step == config.model.checkpoint_step


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("anneal.steps=-5", "anneal.steps=-5: must not be negative"),
        ("anneal.steps=ten", "anneal.steps=ten: must be a whole number"),
        ("anneal.steps=2.5", "anneal.steps=2.5: must be a whole number"),
        ("anneal.weight_decay=much", "anneal.weight_decay=much: must be a number"),
        ("anneal.keep=perhaps", "anneal.keep=perhaps: must be true or false"),
        ("anneal.shape=lienar", "anneal.shape=lienar.*is not one of linear, cosine, sqrt.*did you mean linear"),
        ("anneal.peak_lr=-1e-3", "anneal.peak_lr=-0.001: must be above 0 and at most 0.1"),
        ("anneal.peak_lr=3", "anneal.peak_lr=3: must be above 0"),
        ("anneal.peak_lr=nan", "anneal.peak_lr=nan: must be a finite number"),
        ("anneal.peak_scale=0", "anneal.peak_scale=0: must be above 0 and at most 100"),
        ("anneal.final_fraction=1.5", "anneal.final_fraction=1.5: must be between 0 and 1"),
        ("anneal.hold_steps=1000", "anneal.hold_steps=1000 leave nothing of anneal.steps=1000 to decay .* at most 999"),
        ("anneal.warmup_steps=-1", "anneal.warmup_steps=-1: must not be negative"),
        (
            "anneal.peak_lr=1e-3 anneal.warmup_steps=400 anneal.hold_steps=600",
            "anneal.warmup_steps=400 and anneal.hold_steps=600 leave nothing of anneal.steps=1000",
        ),
        ("anneal.warmup_steps=9", "anneal.warmup_steps=9 goes from the current LR to the peak, .*give one"),
        ("anneal.optimizer=new", "anneal.optimizer=new: Input should be 'keep' or 'fresh'"),
        ("anneal.optimizer=fresh", "starts Adam from zero moments.*OLMo#796.*give anneal.warmup_steps above 0"),
        ("anneal.betas=[0.9,1.0]", r"anneal.betas=\[0.9, 1.0\]: must be two numbers from 0 to below 1"),
        ("anneal.betas=0.9", "anneal.betas=0.9: must be two numbers from 0 to below 1"),
        ("anneal.betas=[0.9]", r"anneal.betas=\[0.9\]: must be two numbers from 0 to below 1, e.g. \[0.9, 0.95\]"),
        ("anneal.betas=['0.9','0.95']", "anneal.betas=.*: must be two numbers from 0 to below 1"),
        ("anneal.betas=[a,b]", "anneal.betas=.*: must be two numbers from 0 to below 1"),
        ("anneal.z_loss=-1", "anneal.z_loss=-1: must not be negative"),
        ("anneal.weight_decay=-1", "anneal.weight_decay=-1: must not be negative"),
        ("anneal.batch_size=0", "anneal.batch_size=0: must be at least 1"),
        ("anneal.sequence_length=1", "anneal.sequence_length=1: must be at least 2"),
        ("anneal.shape=exponential", "anneal.shape=exponential never reaches 0: give anneal.final_fraction"),
        (
            "tasks.suites.core8.metrics.arc_hard=acc",
            "tasks.suites.core8.metrics.arc_hard: 'arc_hard' is.*did you mean arc_easy",
        ),
        ("tasks.suites.core8.metrics.piqa=f1", "tasks.suites.core8.metrics.piqa=f1: 'f1' is not one of acc, acc_norm"),
        (
            "tasks.suites.core8.metrics.piqa=perplexity",
            "tasks.suites.core8.metrics.piqa=perplexity: 'perplexity' is not",
        ),
        ("tasks.suites.core8.split=test", "split=test is not one that core8 has: validation"),
        ("tasks.suites.core8.num_fewshot=5", "tasks.suites.core8.num_fewshot=5 is not allowed for core8: from 0 to 0"),
        ("tasks=core8 tasks.suites.core8.split=null", "tasks.suites.core8.split=null is not one that core8 has"),
        ("tasks=custom +tasks.suites.custom.metrics.heldout=acc", "tasks.suites.custom.metrics.heldout names a task"),
        (
            "tasks=mmlu tasks.suites.mmlu.num_fewshot=6",
            "tasks.suites.mmlu.num_fewshot=6 .*mmlu: from 0 to 5",
        ),
        (
            "tasks=olmes tasks.suites.olmes.num_fewshot=0",
            "tasks.suites.olmes.num_fewshot=0 .*olmes: from 5 to 5",
        ),
        ("tasks=core8-olmo1 tasks.suites.core8-olmo1.documents=1", "documents=1: must be at least 2"),
        ("tasks=loss tasks.heldout=false", "leave nothing to score"),
        ("tasks=custom", r"tasks.suites.custom.metrics=\{\} names no task: \+tasks.suites.custom.metrics.TASK"),
        ("tasks.source=disk", "tasks.source=disk"),
        ("anneal=merge anneal.steps=5", "anneal.merge goes with anneal.steps=0, not 5"),
        ("anneal=merge anneal.merge.last=1", "anneal.merge.last=1: must be at least 2"),
        ("anneal=merge anneal.merge.interval=0", "anneal.merge.interval=0: must be at least 1"),
        ("anneal=merge anneal.merge.weights=lienar", "'lienar' is not one of uniform, linear, .*did you mean linear"),
        ("anneal=merge anneal.merge.weights=constant", "'constant' is not one of uniform"),
        ("anneal=merge anneal.merge.last=5", "needs 5 checkpoints of tiny-s up to step 2000, and 4 are there"),
        ("anneal=merge anneal.merge.interval=700", "anneal.merge.interval=700 needs .* there is none at step -100"),
        ("anneal=merge anneal.merge.paths=[]", r"anneal.merge.paths=\[\]: must not be empty"),
        ("anneal=merge anneal.merge.paths=[/x]", "and model=tiny-s don't go together"),
        (
            "anneal=merge model=olmo-7b checkpoint.step=2000",
            "needs 4 checkpoints of olmo-7b up to step 2000, and 3 are",
        ),
        ("anneal=merge model=olmo-7b anneal.merge.interval=500", "there is none at step 555500"),
        ("tasks.limit=0", "tasks.limit=0: must be at least 2"),
        (
            "checkpoint.step=1999",
            "checkpoint.step=1999 is not a checkpoint of tiny-s.*from 500 to 8000; nearest: 1500, 2000",
        ),
        ("checkpoint.step=0", "checkpoint.step=0: must be at least 1"),
        ("checkpoint.path=/x", "checkpoint.path=/x goes with model=local"),
        (
            "model=local checkpoint.path=/nowhere",
            "checkpoint.path=/nowhere: there is no such folder",
        ),
        ("model=local", "model=local needs checkpoint.path"),
        ("model=hub", r"checkpoint\.repo=None and model=hub don't go together"),
        ("checkpoint.repo=a/b", r"checkpoint\.repo=a/b and model=tiny-s don't go together"),
        ("checkpoint.revision=x", r"checkpoint\.revision=x goes with model=hub, not with model=tiny-s"),
        ("model=hub checkpoint.repo=a/b model.batch_size=4", r"checkpoint\.revision=None names no step"),
        ("model=hub checkpoint.repo=a/b checkpoint.revision=step0", r"checkpoint\.revision=step0 names no step from 1"),
        ("model=hub checkpoint.repo=a/b checkpoint.revision=step5", r"model\.batch_size=None: the Hub doesn't tell"),
        (
            "model=hub checkpoint.repo=a/b checkpoint.revision=step5 model.batch_size=4",
            r"anneal\.optimizer=keep: a/b has weights without optimizer state",
        ),
        ("anneal.max_grad_norm=0", "anneal.max_grad_norm=0: must be above 0"),
        ("tracking.uri=https://me:secret@host", "tracking.uri=.* holds a password"),
        ("tracking.uri=https://token@host", "tracking.uri=.* holds a password or token: give it in the environment"),
        ("tracking.uri='postgresql://me@db/mlflow?password=x'", "tracking.uri=.* holds a password"),
        ("name=store", "name=store: is a folder under multirun/"),
        ("name=a/b", "name=a/b: is a folder under multirun/"),
        ("data.paths=[]", r"data\.paths=\[\]: must not be empty"),
        ("data.paths=''", r"data\.paths\.0=: must not be empty"),
        ("data.dtype=float32", "data.dtype=float32: Input should be 'uint16' or 'uint32'"),
        ("data.position=new", "data.position=new: Input should be 'continue', 'fresh' or 'start'"),
        ("data=local", "data=local needs data.paths"),
        ("data=mixture data.paths=[x]", "data.paths and data.sources contradict each other"),
        ("data=mixture ~data.sources.original", "data.sources={} names no source"),
        ("data=mixture data.sources.original.weight=0", "data.sources.original.weight=0: must be above 0"),
        ("data=mixture data.sources.original.weight=nan", "must be a finite number"),
        ("data.sources={a-b:{paths:[x],weight:1}}", "'a-b' must be a letter, then"),
        ("data.paths=[x] data.root=/y", "data.root=/y goes with the checkpoint's own data"),
        ("data.heldout=''", "data.heldout=: must not be empty"),
        (
            "model=olmo-7b checkpoint.step=59500",
            "checkpoint.step=59500 is not a checkpoint of olmo-7b; nearest: 59000 and 60000; .*checkpoint.source=hub",
        ),
        ("model=olmo-7b checkpoint.step=null", "checkpoint.step=None: give the step of olmo-7b, e.g. 556000"),
        ("model=olmo-7b checkpoint.path=/x", "checkpoint.path=/x goes with model=local, not with model=olmo-7b"),
        ("model=datadecide-4m checkpoint.source=http", "checkpoint.source=http: datadecide-4m is on the Hub alone"),
        ("model=datadecide-4m model.published.recipe=c5", "model.published.recipe=c5: 'c5' is not one of dolma1_7"),
        ("checkpoint.source=ftp", "checkpoint.source=ftp"),
        ("checkpoint.source=hub", "checkpoint.source=hub goes with published models, not with model=tiny-s"),
        ("seed=-1", "seed=-1: must not be negative"),
        ("compute.device=tpu", "compute.device=tpu"),
        ("compute.threads=0", "compute.threads=0: must be at least 1"),
        ("compute.micro_batch_size=0", "compute.micro_batch_size=0: must be at least 1"),
        ("compute.precision=fp16", "compute.precision=fp16: Input should be 'fp32' or 'bf16'"),
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


def test_a_task_of_ones_own_is_added_by_name(tmp_path: Path) -> None:
    config = composed("tasks=custom", f"tasks.include={tmp_path}", "+tasks.suites.custom.metrics.mine=acc")
    task = config.tasks.tasks()["mine"]
    assert (task.protocol, task.include, task.num_fewshot, task.split) == ("custom", str(tmp_path), None, None)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.architecture=null", "model.architecture=None: an embedded model is made here and needs it"),
        ("model.pretraining=null", "model.pretraining=None: an embedded model is made here and needs it"),
        ("~model.architecture", "model.architecture is missing"),
        ("~model.architecture.n_heads", "model.architecture.n_heads is missing"),
        ("+model.architecture.n_head=2", "model.architecture.n_head=2: .*not one of d_model.*did you mean n_heads"),
        ("model.architecture.n_layers=two", "model.architecture.n_layers=two: must be a whole number, at least 1"),
        ("model.architecture.d_model=65", r"model.architecture.d_model=65 must be a multiple of 2 \* n_heads = 4"),
        ("+model.architecture.n_kv_heads=3", "model.architecture.n_kv_heads=3 must divide n_heads=2"),
        ("+model.architecture.mlp_hidden_size=7", "model.architecture.mlp_hidden_size=7 must be even"),
        ("+model.architecture.norm_after=3", "model.architecture.norm_after=3: must be bool"),
        ("model.vocab_size=10", "model.vocab_size=10: must be from 258 to 65536"),
        ("model.batch_size=0", "model.batch_size=0: must be at least 1"),
        ("model.sequence_length=1", "model.sequence_length=1: must be at least 2"),
        ("model.parameters=0", "model.parameters=0: must be at least 1"),
        ("model.pretraining.steps=0", "model.pretraining.steps=0: must be at least 1"),
        ("model.pretraining.checkpoint_interval=0", "checkpoint_interval=0: must be at least 1"),
        (
            "model.pretraining.checkpoint_interval=9000",
            "checkpoint_interval=9000: must be from 1 to model.pretraining.st",
        ),
        ("model.pretraining.warmup_steps=0", "model.pretraining.warmup_steps=0: must be at least 1"),
        ("model.pretraining.peak_lr=-1", "model.pretraining.peak_lr=-1: must be above 0 and at most 0.1"),
        ("model.pretraining.seed=-1", "model.pretraining.seed=-1: must not be negative"),
        ("model.pretraining.optimizer.betas=[0.9,1.5]", r"betas=\[0.9, 1.5\]: must be two numbers from 0 to below 1"),
        ("model.pretraining.optimizer.eps=0", "model.pretraining.optimizer.eps=0: must be above 0"),
        ("model.pretraining.optimizer.weight_decay=-1", "optimizer.weight_decay=-1: must not be negative"),
        ("model.pretraining.optimizer.max_grad_norm=0", "max_grad_norm=0: must be above 0, or null for no clipping"),
        ("+foo=1", "foo=1: 'foo' is not one of name, seed, model"),
        ("+model.pretraining.stepz=3", "model.pretraining.stepz=3: .*did you mean steps"),
    ],
)
def test_an_embedded_model_that_cant_be_made_is_refused(override: str, complaint: str) -> None:
    with pytest.raises(Refusal, match=complaint):
        composed(override)


def test_an_architecture_is_spelt_as_ai2_olmo_spells_it() -> None:
    from olmo.config import ModelConfig

    assert {*SIZES, *OTHERS} <= {field.name for field in dataclasses.fields(ModelConfig)}


def test_a_peak_given_twice_is_refused() -> None:
    with pytest.raises(Refusal, match=r"anneal\.peak_lr=0\.001 and anneal\.peak_scale=0\.5 contradict"):
        composed("anneal.peak_lr=1e-3", "anneal.peak_scale=0.5")


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(Refusal) as refusal:
        composed("anneal.steps=-1", "seed=-1", "tasks.limit=1")
    assert len(str(refusal.value).splitlines()) == 3


def test_the_configuration_is_frozen() -> None:
    config: Any = composed()
    with pytest.raises(AttributeError):
        config.anneal.steps = 3


def test_a_mixtures_weights_are_params_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x.npy").touch()
    shown = params(composed("data=mixture", f"+data.sources.math={{paths: [{tmp_path}/x.npy], weight: 0.3}}"))
    assert (shown["data.sources.original.weight"], shown["data.sources.math.weight"]) == (0.7, 0.3)
    assert shown["data.sources.math.paths"] == (f"{tmp_path}/x.npy",)


def test_params_carry_the_dotted_names_of_the_overrides() -> None:
    shown = params(composed("anneal.steps=7", "seed=2"))
    assert (shown["anneal.steps"], shown["seed"], shown["model"], shown["anneal"]) == (7, 2, "tiny-s", "decay")
    assert {"anneal.shape", "anneal.peak_lr", "anneal.final_fraction", "checkpoint.step", "data", "tasks"} <= set(shown)
