"""The engine as a model of lm-eval's own evaluator: HFLM's answers for log-likelihoods, no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from olmo.model import OLMo
from tokenizers import Tokenizer

from sweep.evaluate.engine import likelihoods
from sweep.evaluate.heldout import heldout_pack
from sweep.evaluate.pack import TOKEN_BUDGET, prepare
from sweep.evaluate.requests import TaskRequests


class OLMoLM(LM):
    """An ai2-olmo `OLMo`; `batch_size` has no meaning here, batches are filled by tokens."""

    def __init__(self, model: OLMo, tokenizer: Tokenizer, *, eos_token_id: int, max_length: int) -> None:
        super().__init__()
        self._model, self._tokenizer = model, tokenizer
        self._limits = {"eos_token_id": eos_token_id, "token_budget": TOKEN_BUDGET}
        self._max_length = max_length

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Log-probability of each continuation after its context, and whether each token of it is the likeliest."""
        if not requests:
            return []
        count = len(requests)
        made = TaskRequests(
            task="requests",
            contexts=tuple(request.args[0] for request in requests),
            continuations=tuple(request.args[1] for request in requests),
            documents=_documents(requests),
            choices=(0,) * count,
            characters=(0,) * count,
            bytes=(0,) * count,
            delimiters=(0,) * count,
            gold=(False,) * count,
            greedy=True,
        )
        pack = prepare([made], self._tokenizer, max_length=self._max_length, **self._limits)
        said = likelihoods(self._model, pack)
        assert said.greedy is not None
        answers = list(zip(said.log_probability.tolist(), said.greedy.tolist(), strict=True))
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability of each text from the end-of-text token on; 0 of an empty one."""
        texts = [request.args[0] for request in requests]
        encoded = [e.ids for e in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        full = [index for index, tokens in enumerate(encoded) if tokens]
        answers = np.zeros(len(texts))
        if full:
            sizes = np.array([len(encoded[index]) for index in full])
            pack = heldout_pack(
                np.concatenate([encoded[index] for index in full]),
                np.concatenate(([0], np.cumsum(sizes))),
                num_characters=sizes,
                num_bytes=sizes,
                sequence_length=self._max_length,
                **self._limits,
            )
            answers[full] = likelihoods(self._model, pack).log_probability
        for request, answer in zip(requests, answers.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
        return answers.tolist()

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> NoReturn:
        """Not supported."""
        raise NotImplementedError(
            "this engine scores text and generates none: run generation tasks with lm-eval's own `hf` model"
        )


def _documents(requests: Sequence[Instance]) -> tuple[int, ...]:
    """A number for each request, the same for neighbours of one document; without one each stands alone."""
    numbers: list[int] = []
    last: Any = None
    for request in requests:
        document = (request.task_name, request.doc_id)
        alone = request.doc_id is None
        numbers.append(numbers[-1] if numbers and document == last and not alone else len(numbers))
        last = document
    return tuple(numbers)
