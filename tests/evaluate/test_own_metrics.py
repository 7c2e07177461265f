"""Odd definitions of lm-eval's likelihood tasks: our numbers are those of lm-eval's evaluator with its own engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.api.metrics import mean, perplexity
from lm_eval.tasks import TaskManager
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.config import Task
from sweep.domain.errors import Refusal
from sweep.domain.records import Score
from sweep.evaluate import (
    chance_of,
    custom,
    deltas,
    finished_records,
    load_task,
    make_pack,
    protocol,
    protocols,
    records_table,
    scores,
)
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.own_metrics import linearised
from sweep.evaluate.record_files import own_metrics, read_records, write_records

from .conftest import MAX_LENGTH, RULES, hflm_of, make_olmo

TEXT = "a man is sitting on the roof and he ripping level tiles off with some tool he has"
WORDS = TEXT.split(" ")
ROWS = [
    {
        "q": " ".join(WORDS[n % 5 : n % 5 + 4]),
        "choices": [" ".join(WORDS[(n + k) % 9 : (n + k) % 9 + 1 + (n * k) % 3]) for k in range(2 + n % 2)],
        "label": n % 2,
        "labels": [0, 1] if n % 3 else [1],
        "two": [WORDS[n % 7], WORDS[n % 7 + 2]],
        "text": " ".join(WORDS[: 3 + n]) * (1 + 40 * (n == 5)),
    }
    for n in range(12)
]
CODE = """
import math

def worst(doc, results):
    lls = [ll for ll, _ in results]
    return {"acc": float(lls.index(min(lls)) == doc["label"])}

def mass(doc, results):
    odds = [math.exp(ll / 9) for ll, _ in results]
    return {"acc": sum(odds[i] for i in doc["labels"]) / sum(odds)}

def some(doc, results):
    gap = results[0][0] - results[1][0]
    return {"gap": gap, "biased": float(gap > 0)} if doc["label"] else {"gap": gap}

def spread(items):
    return max(items) - min(items)

def likeliest(doc, results):
    ((ll, greedy),) = results
    return {"nats": -ll, "greedy": float(greedy)}

def contexts(doc):
    return [doc["q"] + " " + c for c in doc["two"]]
"""
SHARED = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
"""
CHANGES = {
    "inverse": "metric_list: [{metric: acc}]\nprocess_results: !function code.worst",
    "mass": "metric_list: [{metric: acc}]\nprocess_results: !function code.mass",
    "parts": "metric_list: [{metric: gap, aggregation: !function code.spread, higher_is_better: false},\n"
    "  {metric: biased, aggregation: mean, higher_is_better: false}]\nprocess_results: !function code.some",
    "f_one": 'doc_to_choice: "{{two}}"\nmetric_list: [{metric: f1}, {metric: acc}]',
    "matthews": 'doc_to_choice: "{{two}}"\nmetric_list: [{metric: mcc}, {metric: brier_score}]',
    "exact": "metric_list: [{metric: exact_match}, {metric: acc}]",
    "mutual": "metric_list: [{metric: acc_mutual_info}, {metric: acc}]",
    "targets": "doc_to_target: labels\nmetric_list: [{metric: acc}, {metric: exact_match}]",
    "spelt": 'doc_to_target: "{{choices[label]}}"\ntarget_delimiter: ""\nmetric_list: [{metric: acc_bytes}]',
    "contexts": "doc_to_text: label\ndoc_to_choice: !function code.contexts\n"
    'doc_to_target: "is the one."\nmetric_list: [{metric: acc}, {metric: acc_norm}]',
    "endings": "output_type: loglikelihood\ndoc_to_choice: null\n"
    'doc_to_target: " {{choices[0]}}"\nmetric_list: [{metric: perplexity, aggregation: perplexity}, {metric: acc}]',
    "coded": "output_type: loglikelihood\ndoc_to_choice: null\nprocess_results: !function code.likeliest\n"
    'doc_to_target: " {{choices[0]}}"\nmetric_list: [{metric: nats, aggregation: mean, higher_is_better: false}]',
    "rolling": "output_type: loglikelihood_rolling\ndoc_to_choice: null\ndoc_to_text: ''\ndoc_to_target: text\n"
    "metric_list: [{metric: word_perplexity}, {metric: byte_perplexity}, {metric: bits_per_byte}]",
}
"""Task -> the lines in which its definition differs from the shared one."""
FEW = "task: few\ninclude: exact.yaml\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
GROUPS = {
    "weighed": "group: weighed\ntask: [exact, few]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\n",
    "alike": "group: alike\ntask: [exact, few]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n",
}


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    (folder / "code.py").write_text(CODE)
    for name, lines in CHANGES.items():
        changed = {line.partition(":")[0] for line in lines.splitlines()}
        kept = [line for line in SHARED.splitlines() if line.partition(":")[0] not in changed]
        text = "\n".join(kept).format(name=name, data=folder / "rows.jsonl") + f"\n{lines}\n"
        (folder / f"{name}.yaml").write_text(text)
    (folder / "few.yaml").write_text(FEW.format(data=folder / "few.jsonl"))
    for name, text in GROUPS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def model() -> OLMo:
    return make_olmo()


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes 20 s
        yield


@pytest.fixture(scope="module")
def theirs(include: Path, model: OLMo, tokenizer: Tokenizer) -> dict[str, Any]:
    """What lm-eval's evaluator reports of each definition, with its own engine."""
    tasks = TaskManager(include_path=str(include), include_defaults=False)
    settings = {"task_manager": tasks, "bootstrap_iters": 20, "log_samples": False}
    results: dict[str, Any] = {}
    engine = hflm_of(model, tokenizer)
    for names in ([*CHANGES], *([name] for name in GROUPS)):  # lm-eval takes a task once
        results |= simple_evaluate(engine, tasks=names, **settings)["results"]
    return results


def asked(name: str, include: Path, metric: str) -> Task:
    return Task(name=name, protocol="custom", split=None, num_fewshot=None, include=str(include), metric=metric)


def records(task: Task, model: OLMo, tokenizer: Tokenizer) -> Any:
    pack = make_pack([load_task(task)], tokenizer, rules=RULES, max_length=MAX_LENGTH)
    return finished_records(task, records_table(pack, task.name, likelihoods(model, pack)))


METRIC = {"parts": "biased", "coded": "nats", "rolling": "bits_per_byte"}


def one_metric(name: str) -> str:
    """One that the task has."""
    return METRIC.get(name, "acc")


@pytest.mark.parametrize("name", [*CHANGES, *GROUPS])
def test_each_metric_is_lm_evals(
    name: str, include: Path, theirs: dict[str, Any], model: OLMo, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    table = records(asked(name, include, one_metric(name)), model, tokenizer)
    write_records(table, tmp_path / "records.parquet")
    found = {score.metric: score for score in scores(name, read_records(tmp_path / "records.parquet"))}
    expected = {key.partition(",")[0]: value for key, value in theirs[name].items() if key.endswith(",none")}
    metrics = [metric for metric in expected if not metric.endswith("_stderr")]
    assert metrics
    for metric in metrics:
        assert found[metric].value == pytest.approx(expected[metric], rel=2e-5, abs=1e-9), metric
        error = expected[f"{metric}_stderr"]
        if metric not in BOOTSTRAPPED and error != "N/A":
            assert found[metric].stderr == pytest.approx(error, rel=1e-4, abs=1e-9), metric


BOOTSTRAPPED = ("f1", "mcc", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "gap")
"""Of these lm-eval has no formula for the error; it draws documents anew."""


def test_its_key_holds_what_scores_it_and_no_address_in_memory(include: Path) -> None:
    def key(name: str) -> str:
        protocols._custom.cache_clear(), custom.load_custom.cache_clear(), custom._manager.cache_clear()
        return protocol(asked(name, include, one_metric(name)))

    before, other = key("parts"), key("mass")
    assert key("parts") == before
    code = (include / "code.py").read_text()
    (include / "code.py").write_text(code.replace("gap > 0", "gap > 1"))
    assert key("parts") != before and key("mass") != other, "the code of a folder scores all its tasks"
    (include / "code.py").write_text(code)


def test_what_our_formulas_would_mistake_is_not_offered(include: Path, model: OLMo, tokenizer: Tokenizer) -> None:
    with pytest.raises(Refusal, match=r"metrics\.inverse=acc_norm: inverse is .*; allowed: acc, acc_per_token"):
        load_task(asked("inverse", include, "acc_norm"))
    with pytest.raises(Refusal, match=r"metrics\.targets=margin: .* allowed: acc, acc_norm, acc_bytes, exact_match$"):
        load_task(asked("targets", include, "margin"))
    with pytest.raises(
        Refusal, match=r"metrics\.rolling=acc: .* allowed: word_perplexity, byte_perplexity, bits_per_byte$"
    ):
        load_task(asked("rolling", include, "acc"))
    inverse, plain = (records(asked(name, include, "acc"), model, tokenizer) for name in ("inverse", "exact"))
    assert (
        "acc_norm" not in {score.metric for score in scores("inverse", inverse)} >= {"acc", "bits_per_byte", "margin"}
    )
    assert chance_of(inverse) is None and chance_of(plain) == pytest.approx(np.mean([1 / 2, 1 / 3]))
    facts = own_metrics(records(asked("parts", include, "gap"), model, tokenizer))
    assert facts is not None and facts.lower == ("gap", "biased")


def test_a_metric_that_lm_eval_knows_can_be_chosen_though_the_definition_lists_others(include: Path) -> None:
    task = load_task(asked("exact", include, "acc_mutual_info"))
    assert task.unconditional == ""
    load_task(asked("exact", include, "f1"))


def test_gains_are_paired_over_documents(include: Path, model: OLMo, tokenizer: Tokenizer) -> None:
    task = asked("parts", include, "biased")
    before, after = records(task, model, tokenizer), records(task, make_olmo(mlp_ratio=2), tokenizer)

    def of(found: tuple[Score, ...]) -> dict[str, Score]:
        return {score.metric: score for score in found}

    first, second, gained = of(scores("parts", before)), of(scores("parts", after)), of(deltas("parts", before, after))
    for metric in ("gap", "biased"):
        assert gained[metric].value == pytest.approx(second[metric].value - first[metric].value)
    assert gained["biased"].documents == 6, "the others have no such value"


def test_a_definition_whose_code_fails_is_refused_before_anything_is_computed(include: Path, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def results(doc, results):\n    return {'acc': doc['none']}\n")
    text = (include / "inverse.yaml").read_text().replace("code.worst", "code.results")
    (tmp_path / "inverse.yaml").write_text(text.replace("inverse", "failing"))
    with pytest.raises(Refusal, match=r"metrics\.failing: lm-eval's code can't score it: KeyError: 'none'"):
        load_task(asked("failing", tmp_path, "acc"))


def test_what_lm_eval_cant_aggregate_is_refused_where_it_is_chosen_and_else_left_out(
    include: Path, model: OLMo, tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    """lm-eval's f1 knows two choices alone, and some documents have three."""
    with pytest.raises(Refusal, match=r"exact: lm-eval's aggregation of f1 fails: ValueError: Target is multiclass"):
        records(asked("exact", include, "f1"), model, tokenizer)
    (text, listed) = (include / "exact.yaml").read_text(), "{metric: exact_match}"
    (include / "listed.yaml").write_text(text.replace(listed, "{metric: f1}").replace("task: exact", "task: listed"))
    found = {score.metric for score in scores("listed", records(asked("listed", include, "acc"), model, tokenizer))}
    assert "f1" not in found and "acc" in found and "aggregation of f1 fails" in caplog.text


def test_the_mean_of_linearised_values_is_the_number() -> None:
    items = np.random.default_rng(0).normal(size=700).tolist()
    assert linearised(mean, items).tolist() == items
    values = linearised(perplexity, items)
    assert values.mean() == pytest.approx(perplexity(items))
    by_delta_method = perplexity(items) * np.std(items, ddof=1) / np.sqrt(len(items))
    assert np.std(values, ddof=1) / np.sqrt(len(values)) == pytest.approx(by_delta_method, rel=0.1)
    assert np.isnan(linearised(lambda items: float("nan"), items)).all()
