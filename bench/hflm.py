"""lm-eval's own engine, HFLM, over the weights of an ai2-olmo `OLMo`: what `bench/scoring.py` measures ours against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from olmo.model import OLMo
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from sweep.checkpoints.huggingface import config_json, to_native
from sweep.evaluate import TaskRequests


def native(model: OLMo) -> PreTrainedModel:
    """The same weights in transformers' own class."""
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_json(model.config)))
    weights = to_native(model.state_dict(), model.config)
    theirs.load_state_dict({"lm_head.weight": weights["model.embed_tokens.weight"], **weights})
    return theirs.to(model.device).eval()


def hflm(model: PreTrainedModel, tokenizer: Tokenizer, *, batch_size: int, max_length: int) -> HFLM:
    """lm-eval's engine."""
    end = tokenizer.id_to_token(0)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)
    sizes = {"batch_size": batch_size, "max_length": max_length}
    return HFLM(pretrained=model, tokenizer=fast, backend="causal", device=str(model.device), **sizes)


def theirs_of(engine: HFLM, tasks: Sequence[TaskRequests]) -> np.ndarray:
    """HFLM's of all requests as lm-eval hands them to it."""
    pairs = [pair for task in tasks for pair in zip(task.contexts, task.continuations, strict=True)]
    made = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
    return np.array([answer[0] for answer in engine.loglikelihood(made, disable_tqdm=True)])
