"""Small OLMos of both generations with random weights, and a tokenizer trained on what they score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.model import LM
from olmo.model import OLMo
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from sweep.checkpoints.huggingface import config_json, to_native
from sweep.checkpoints.olmo_core_config import OlmoCoreModel
from sweep.config import CORE8, Task
from sweep.domain.text_rules import TextRules
from sweep.evaluate import TaskRequests, load_task
from sweep.models.windows import build_model
from sweep.run.score import Scoring
from tests.composing import composed

VOCAB, EOS, MAX_LENGTH, LIMIT = 512, 0, 1024, 24
RULES = TextRules(eos_token_id=EOS)

OLMO1 = {"layer_norm_type": "default", "layer_norm_with_affine": False, "attention_layer_norm": False}
OLMO2 = {
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "attention_layer_norm": True,
    "attention_layer_norm_with_affine": True,
    "norm_after": True,
    "rope_theta": 500000,
}


def make_olmo(**overrides: Any) -> OLMo:
    """A two-layer OLMo whose random weights are large enough for its choices to differ."""
    torch.manual_seed(0)
    config = {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "mlp_ratio": 4,
        "max_sequence_length": MAX_LENGTH,
        "vocab_size": VOCAB,
        "embedding_size": VOCAB,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
        "rope": True,
        "alibi": False,
        "include_bias": False,
        "bias_for_layer_norm": False,
        "activation_type": "swiglu",
        "weight_tying": False,
        "attention_dropout": 0.0,
        "residual_dropout": 0.0,
        "embedding_dropout": 0.0,
        "init_device": "cpu",
    }
    model = build_model(OlmoCoreModel(**config | OLMO1 | overrides)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.25 * (32 / model.config.d_model) ** 0.5)
    return model


@pytest.fixture(scope="session")
def core8() -> dict[str, TaskRequests]:
    """The first documents of every task."""
    return {name: load_task(Task(name=name, limit=LIMIT)) for name in CORE8}


@pytest.fixture(scope="session")
def tokenizer(core8: dict[str, TaskRequests]) -> Tokenizer:
    """Byte-level BPE with end-of-text as token 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text for task in core8.values() for text in task.contexts], trainer)
    return tokenizer


@pytest.fixture(scope="session", params=["olmo1", "olmo2"])
def olmo(request: pytest.FixtureRequest) -> OLMo:
    """One of each generation."""
    return make_olmo(**{"olmo1": OLMO1 | {"clip_qkv": 2.0, "weight_tying": True}, "olmo2": OLMO2}[request.param])


@pytest.fixture(scope="module")
def hflm(olmo: OLMo, tokenizer: Tokenizer) -> LM:
    """lm-eval's own engine on the same weights."""
    return hflm_of(olmo, tokenizer)


def hflm_of(olmo: OLMo, tokenizer: Tokenizer) -> LM:
    """lm-eval's own engine on these weights."""
    pytest.importorskip("accelerate", reason="lm-eval's HFLM needs accelerate (lm-eval[hf])")
    from lm_eval.models.huggingface import HFLM

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    weights = to_native(olmo.state_dict(), olmo.config)
    native = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config_json(olmo.config)))
    native.load_state_dict({"lm_head.weight": weights["model.embed_tokens.weight"], **weights})
    return HFLM(
        pretrained=native.eval(), tokenizer=fast, backend="causal", batch_size=8, max_length=MAX_LENGTH, device="cpu"
    )


Encode = Callable[[str, str], tuple[list[int], list[int]]]


@pytest.fixture(scope="session")
def encode(tokenizer: Tokenizer) -> Encode:
    """lm-eval's own rule from strings to context and continuation tokens."""
    from lm_eval.api.model import TemplateLM

    class Encoder(TemplateLM):
        backend = "causal"
        eot_token_id = EOS

        def tok_encode(self, string: str, **_: Any) -> list[int]:
            return tokenizer.encode(string, add_special_tokens=False).ids

        def _loglikelihood_tokens(self, requests: Any, **_: Any) -> Any:
            return requests

        def loglikelihood_rolling(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

        def generate_until(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError

    class Pair:
        def __init__(self, *args: str) -> None:
            self.args = args

    return lambda context, rest: Encoder().loglikelihood([Pair(context, rest)], disable_tqdm=True)[0][1:]


def scoring_of(folder: Path, *overrides: str, **changes: Any) -> Scoring:
    """Of the composed tasks, by the tokenizer.json in a folder; no held-out text."""
    settings: dict[str, Any] = {
        "tasks": composed(*overrides).tasks,
        "tokenizer": folder / "tokenizer.json",
        "rules": RULES,
        "max_length": MAX_LENGTH,
        "heldout": None,
        "numerics": "cpu",
    }
    return Scoring(**settings | changes)
