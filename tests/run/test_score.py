"""Scoring by whole suites: what is in the store afterwards, what it took, and what is refused first."""

from __future__ import annotations

import dataclasses
import shutil
from copy import deepcopy as copy_of
from pathlib import Path
from typing import Any

import pytest
import torch
from olmo.model import OLMo
from tokenizers import Tokenizer, models

from sweep import evaluate
from sweep.checkpoints import TrainingState, save_state
from sweep.config import CORE8
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.evaluate import protocols
from sweep.run.checkpoint_folder import CheckpointFolder
from sweep.run.score import Scorer, Scoring, _pack_key, deltas, record_files, scored_weights, scores
from sweep.system.store import Store
from tests.composing import composed
from tests.evaluate.conftest import EOS, MAX_LENGTH, core8, make_olmo, scoring_of, tokenizer

__all__ = ["core8", "tokenizer"]


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    return scoring_of(tmp_path, max_length=128)


def scorer(store: Store, scoring: Scoring) -> Scorer:
    return Scorer(store, scoring, torch.device("cpu"))


def with_(scoring: Scoring, **changes: Any) -> Scoring:
    return Scoring(**vars(scoring) | changes)


@pytest.mark.parametrize(
    ("overrides", "means"),
    [
        (["tasks=core8"], {"core8"}),
        (["tasks=[core8-olmo1,mmlu]", "tasks.suites.mmlu.num_fewshot=0"], {"core8-olmo1", "mmlu"}),
        (["tasks=olmes"], {"olmes"}),
    ],
    ids=lambda of: "" if isinstance(of, set) else of[0],
)
def test_every_metric_comes_from_one_pass(
    overrides: list[str], means: set[str], tokenizer: Tokenizer, store: Store, tmp_path: Path
) -> None:
    tasks = composed(*overrides, "tasks.limit=2", "tasks.heldout=false").tasks
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    scoring = scoring_of(tmp_path, tasks=tasks)
    files, loads = {}, []

    def model(when: str) -> OLMo:
        loads.append(when)
        assert len(store.keys("packs")) == len(tasks.metrics), "all tasks are prepared before the first forward pass"
        return make_olmo(d_model=32 if when == "before" else 64)

    for when in ("before", "after"):
        files[when] = record_files(scorer(store, scoring), when, lambda when=when: model(when), when=when)
    found = {(s.task, s.metric): s for s in scores(files["after"], tasks)}
    changed = {(s.task, s.metric): s for s in deltas(files["before"], files["after"], tasks)}
    assert set(found) == set(changed)
    assert {task for task, metric in found if metric == "mean"} == {f"{name}:2" for name in means}
    assert {task for task, metric in found if metric == "mean_above_chance"} == {f"{name}:2" for name in means}
    for task, metric in tasks.metrics.items():
        assert (f"{task}:2", metric) in found
        assert (f"{task}:2", "brier_score") in found and (f"{task}:2", "margin_per_char") in found
        assert ((f"{task}:2", "acc_uncond") in found) == (metric == "acc_uncond"), task
    before = {(s.task, s.metric): s for s in scores(files["before"], tasks)}
    for name, delta in changed.items():
        assert delta.value == pytest.approx(found[name].value - before[name].value, abs=1e-12), name
    assert set(files["after"]) == set(tasks.metrics)

    asked = len(loads)
    record_files(scorer(store, scoring), "after", lambda: model("again"), when="after")
    assert len(loads) == asked, "scores in the store need no model"


def test_mmlu_is_one_task_with_its_subjects_in_the_records(tokenizer: Tokenizer, store: Store, tmp_path: Path) -> None:
    tasks = composed("tasks=mmlu", "tasks.suites.mmlu.num_fewshot=0", "tasks.limit=2", "tasks.heldout=false").tasks
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    scoring = scoring_of(tmp_path, tasks=tasks)
    files = record_files(scorer(store, scoring), "w", make_olmo, when="before")
    table = evaluate.read_records(files["mmlu"])
    assert len(set(table["subject"].to_pylist())) == 57 and len(table) == 57 * 2 * 4
    found = {s.metric: s for s in scores(files, tasks) if s.task == "mmlu:2"}
    right = {}
    rows = table.to_pylist()
    for document in range(114):
        of = [row for row in rows if row["document"] == document]
        best = max(of, key=lambda row: row["log_probability"])
        right.setdefault(of[0]["subject"], []).append(float(best["gold"]))
    assert found["acc"].value == pytest.approx(sum(sum(r) / 2 for r in right.values()) / 57)
    assert found["acc_micro"].value == pytest.approx(sum(sum(r) for r in right.values()) / 114)
    assert {s.task for s in scores(files, tasks)} == {"mmlu:2"}


def test_what_preparing_took_is_told(tokenizer: Tokenizer, scoring: Scoring, store: Store, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "own.json"))
    tasks = composed("tasks.limit=2").tasks
    own = with_(scoring, tokenizer=tmp_path / "own.json", tasks=tasks, max_length=MAX_LENGTH)
    scoring_own = scorer(store, own)
    record_files(scoring_own, "w", make_olmo, when="before")
    spent = scoring_own.spent
    assert 0 < spent.preparing_s < spent.scoring_s


def test_a_task_whose_data_are_missing_is_refused_before_any_forward_pass(
    scoring: Scoring, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    split_path = protocols.split_path
    monkeypatch.setattr(
        protocols, "split_path", lambda data, split: tmp_path / "x" if "winogrande" in data else split_path(data, split)
    )

    def model() -> OLMo:
        raise AssertionError("the model was loaded")

    with pytest.raises(Refusal, match="winogrande needs"):
        record_files(scorer(store, scoring), "w", model, when="before")


@pytest.mark.parametrize(
    "change",
    [{"rules": TextRules(eos_token_id=1)}, {"rules": TextRules(eos_token_id=EOS, bos_token_id=1)}, {"max_length": 64}],
)
def test_a_pack_is_named_by_what_its_tokens_depend_on(scoring: Scoring, change: dict[str, Any]) -> None:
    assert _pack_key(scoring, "piqa") != _pack_key(with_(scoring, **change), "piqa")


def test_a_pack_is_shared_by_devices_and_threads(scoring: Scoring) -> None:
    assert _pack_key(scoring, "piqa") == _pack_key(with_(scoring, numerics="cuda"), "piqa")


def test_the_core_tasks_are_defined_once() -> None:
    assert set(CORE8) == set(protocols.SOURCES)
    assert not hasattr(protocols, "CORE8") and not hasattr(evaluate, "CORE8")


def test_scores_of_another_build_are_taken_only_where_that_is_asked_for(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, tokenizer: Tokenizer
) -> None:
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = scoring_of(tmp_path, "tasks.limit=2", "tasks.heldout=false", numerics="theirs")
    made = record_files(scorer(store, theirs), "former", make_olmo, when="before")
    caplog.set_level("INFO")

    def gone() -> OLMo:
        raise AssertionError("nothing is to be computed")

    taking = scorer(store, with_(theirs, numerics="ours", others=("no", "theirs")))
    assert record_files(taking, "weights", gone, when="before", former="former") == made
    assert "compute.reuse=any: score" in caplog.text
    with pytest.raises(AssertionError):
        record_files(scorer(store, with_(theirs, numerics="ours")), "former", gone, when="before")


def test_a_copy_of_a_state_has_its_scores_and_another_architecture_has_not(
    store: Store, state: TrainingState, tmp_path: Path
) -> None:
    with store.writing("states", "0" * 32) as folder:
        save_state(folder, state)
    kept = CheckpointFolder(key="0" * 32, folder=store.path("states", "0" * 32), config=state.config)
    copied = tmp_path / "copy"
    shutil.copytree(kept.folder, copied)
    copy = dataclasses.replace(kept, key="of the folder", folder=copied)
    assert scored_weights(store, copy) == scored_weights(store, kept)
    changed = copy_of(state.config)
    changed.model.rope_theta = 7
    assert scored_weights(store, dataclasses.replace(copy, config=changed)) != scored_weights(store, kept)
