"""Scores against lm-eval itself: its evaluator and its HFLM on the same weights in the native transformers classes."""

from __future__ import annotations

import numpy as np
import pytest
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.config import CORE8, Task
from sweep.evaluate import TaskRequests, make_pack, records_table, scores
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.lm_eval_tasks import wheel_task
from sweep.evaluate.wheel import SOURCES

from .conftest import LIMIT, MAX_LENGTH, RULES


@pytest.mark.parametrize("name", CORE8)
def test_equals_lm_eval(name: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo, hflm: LM) -> None:
    task = wheel_task(SOURCES[name], Task(name=name, limit=LIMIT))
    theirs = evaluate(hflm, {name: task}, limit=LIMIT, bootstrap_iters=100, log_samples=True)
    reported = theirs["results"][name]
    per_request = [response[0][0] for sample in theirs["samples"][name] for response in sample["resps"]]

    pack = make_pack([core8[name]], tokenizer, rules=RULES, max_length=MAX_LENGTH, token_budget=2000)
    ours = likelihoods(olmo, pack)
    assert np.abs(ours.log_probability - per_request).max() < 2e-4

    found = {score.metric: score for score in scores(name, records_table(pack, name, ours))}
    metrics = [metric for metric in ("acc", "acc_norm") if f"{metric},none" in reported]
    assert metrics == (["acc"] if name in ("boolq", "winogrande") else ["acc", "acc_norm"])
    for metric in metrics:
        assert found[metric].value == reported[f"{metric},none"]
        assert found[metric].stderr == pytest.approx(reported[f"{metric}_stderr,none"], rel=1e-12)
        assert found[metric].documents == LIMIT
