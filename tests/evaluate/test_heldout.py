"""Held-out documents against lm-eval's rolling windows and the OLMo module's own forward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.utils import get_rolling_token_windows
from olmo.model import OLMo

from sweep.evaluate import HELDOUT, Pack, TextDocuments, heldout_pack, records_table, scores
from sweep.evaluate.engine import likelihoods

from .conftest import EOS, VOCAB

LENGTH = 16
SIZES = [1, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 100]


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCAB, size).tolist() for size in SIZES]


def packed(documents: list[list[int]], **settings: Any) -> Pack:
    offsets = np.concatenate(([0], np.cumsum([len(document) for document in documents])))
    sizes = np.array([3 * len(document) for document in documents])
    tokens = np.concatenate(documents).astype(np.uint16)
    texts = TextDocuments(tokens=tokens, offsets=offsets, characters=sizes, bytes=sizes + 1)
    return heldout_pack(
        texts,
        **{"prefix_token_id": EOS, "eos_token_id": EOS, "sequence_length": LENGTH, "token_budget": 200} | settings,
    )


@torch.inference_mode()
def rolling(document: list[int], model: OLMo) -> float:
    total = 0.0
    for inputs, predicted in get_rolling_token_windows(document, EOS, LENGTH, 1):
        logits = model(torch.tensor([inputs])).logits[0, -len(predicted) :].double()
        total += logits.log_softmax(-1)[range(len(predicted)), predicted].sum().item()
    return total


def test_equals_lm_evals_rolling_windows(documents: list[list[int]], olmo: OLMo) -> None:
    ours = likelihoods(olmo, packed(documents)).log_probability
    assert ours == pytest.approx([rolling(document, olmo) for document in documents], abs=2e-4, rel=1e-6)


def test_every_token_of_the_text_is_scored_once(documents: list[list[int]]) -> None:
    pack = packed(documents)
    assert pack.tokens.tolist() == SIZES
    assert sorted(pack.target.tolist()) == sorted(token for document in documents for token in document)


def test_a_closing_end_of_text_is_not_scored(documents: list[list[int]], olmo: OLMo) -> None:
    closed = packed([[*document, EOS] for document in documents])
    assert closed.tokens.tolist() == SIZES
    assert np.array_equal(
        likelihoods(olmo, closed).log_probability, likelihoods(olmo, packed(documents)).log_probability
    )


def test_scores_are_totals_over_tokens_and_bytes(documents: list[list[int]], olmo: OLMo) -> None:
    pack = packed(documents)
    said = likelihoods(olmo, pack)
    nats = -said.log_probability
    found = {score.metric: score.value for score in scores(HELDOUT, records_table(pack, HELDOUT, said))}
    assert found["loss"] == pytest.approx(nats.sum() / sum(SIZES))
    assert found["perplexity"] == pytest.approx(math.exp(nats.sum() / sum(SIZES)))
    assert found["bits_per_byte"] == pytest.approx(nats.sum() / math.log(2) / sum(3 * size + 1 for size in SIZES))


@pytest.mark.parametrize("empty", [[], [EOS]])
def test_an_empty_document_is_refused(empty: list[int]) -> None:
    with pytest.raises(ValueError, match="document 1 has no tokens"):
        packed([[1, 2], empty, [3]])
