"""The engine as a model for lm-eval's own evaluator: log-likelihoods as HFLM gives them, and no generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from tokenizers import Tokenizer
from torch import nn

from sweep.config.tasks import Task
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.evaluate.encoding import encode, surrounded
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.heldout import TextDocuments, heldout_pack
from sweep.evaluate.pack import make_pack
from sweep.evaluate.requests import ChoiceRequest, task_requests

NO_CHAT = "--apply_chat_template: checkpoints of a pretraining have no chat template; leave it out"


class OLMoLM(LM):
    """Any model that the engine runs. lm-eval's `batch_size` means nothing to it, as batches are filled by tokens."""

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, rules: TextRules, max_length: int) -> None:
        super().__init__()
        self._model, self._tokenizer = model, tokenizer
        self._rules, self._max_length = rules, max_length

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability in nats, whether all tokens are the likeliest) of each continuation after its context."""
        if not requests:
            return []
        texts = [request.args for request in requests]
        asked = [
            ChoiceRequest(document, 0, context, continuation, gold=False)
            for document, (context, continuation) in zip(_documents(requests), texts, strict=True)
        ]
        task = task_requests(Task(name="requests"), asked, greedy=True)
        pack = make_pack([task], self._tokenizer, rules=self._rules, max_length=self._max_length)
        result = likelihoods(self._model, pack)
        assert result.greedy is not None
        answers = list(zip(result.log_probability.tolist(), result.greedy.tolist(), strict=True))
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", request.args, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of each text after the prefix token; 0 for an empty text.

        As in HFLM, what the tokenizer puts before and after a text is scored with it.
        """
        texts = [request.args[0] for request in requests]
        tokens = encode(texts, self._tokenizer)
        encoded = [surrounded(text, tokens[text], self._rules) for text in texts]
        nonempty = [index for index, tokens in enumerate(encoded) if len(tokens)]
        answers = np.zeros(len(texts))
        if nonempty:
            sizes = np.array([len(encoded[index]) for index in nonempty])
            documents = TextDocuments(
                tokens=np.concatenate([encoded[index] for index in nonempty]),
                offsets=np.concatenate(([0], np.cumsum(sizes))),
                characters=sizes,
                bytes=sizes,
            )
            prefix = self._rules.prefix_token_id
            pack = heldout_pack(documents, prefix_token_id=prefix, eos_token_id=None, sequence_length=self._max_length)
            answers[nonempty] = likelihoods(self._model, pack).log_probability
        for request, answer in zip(requests, answers.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, answer)
        return answers.tolist()

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """None, as without a chat; Refusal where a chat template is asked for."""
        if chat_template:
            raise Refusal(NO_CHAT)
        return None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> NoReturn:
        """Refused: checkpoints of a pretraining have no chat template."""
        raise Refusal(NO_CHAT)

    @property
    def tokenizer_name(self) -> str:
        """Asked for only with a chat template; Refusal."""
        raise Refusal(NO_CHAT)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> NoReturn:
        """Not supported."""
        raise NotImplementedError(
            "this engine scores text and generates none: run generation tasks with lm-eval's own `hf` model"
        )


def _documents(requests: Sequence[Instance]) -> tuple[int, ...]:
    """A number for each request: neighbours of one document share it, requests without a document stand alone."""
    numbers: list[int] = []
    last: Any = None
    for request in requests:
        document = (request.task_name, request.doc_id)
        alone = request.doc_id is None
        numbers.append(numbers[-1] if numbers and document == last and not alone else len(numbers))
        last = document
    return tuple(numbers)
