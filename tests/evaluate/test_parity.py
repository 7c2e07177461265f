"""Scores against lm-eval itself: its evaluator and its HFLM on the same weights in the native transformers classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from olmo.model import OLMo
from tokenizers import Tokenizer
from transformers import Olmo2Config, Olmo2ForCausalLM, OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

from sweep.config import CORE8, Task
from sweep.evaluate import TaskRequests, likelihoods, prepare, records_table, scores
from sweep.evaluate.harness import WheelTask
from sweep.evaluate.protocols import SOURCES

from .conftest import EOS, LIMIT, MAX_LENGTH


def native(model: OLMo) -> torch.nn.Module:
    """The same weights in the class that transformers has for them."""
    config, state = model.config, model.state_dict()
    d, kv = config.d_model, config.effective_n_kv_heads * config.d_model // config.n_heads
    head = "transformer.wte.weight" if config.weight_tying else "transformer.ff_out.weight"
    new = {"model.embed_tokens.weight": state["transformer.wte.weight"], "lm_head.weight": state[head]}
    for layer in range(config.n_layers):
        old, to = f"transformer.blocks.{layer}.", f"model.layers.{layer}."
        q, k, v = state[old + "att_proj.weight"].split([d, kv, kv])
        up, gate = state[old + "ff_proj.weight"].chunk(2)
        weights = {"self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v, "mlp.up_proj": up}
        weights |= {"mlp.gate_proj": gate, "self_attn.o_proj": state[old + "attn_out.weight"]}
        weights |= {"mlp.down_proj": state[old + "ff_out.weight"]}
        if config.norm_after:
            names = {"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
            names |= {"attn_norm": "post_attention_layernorm", "ff_norm": "post_feedforward_layernorm"}
            weights |= {name: state[f"{old}{ours}.weight"] for ours, name in names.items()}
        new |= {f"{to}{name}.weight": weight for name, weight in weights.items()}
    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": d,
        "intermediate_size": config.mlp_ratio * d // 2,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "max_position_embeddings": config.max_sequence_length,
        "pad_token_id": EOS,
        "bos_token_id": None,
        "eos_token_id": EOS,
        "tie_word_embeddings": config.weight_tying,
        "rope_parameters": {"rope_type": "default", "rope_theta": float(config.rope_theta)},
    }
    if config.norm_after:
        new["model.norm.weight"] = state["transformer.ln_f.weight"]
        theirs = Olmo2ForCausalLM(Olmo2Config(rms_norm_eps=config.layer_norm_eps, **shared))
    else:
        theirs = OlmoForCausalLM(OlmoConfig(clip_qkv=config.clip_qkv, **shared))
    theirs.load_state_dict(new)
    return theirs.eval()


@pytest.fixture(scope="module")
def hflm(olmo: OLMo, tokenizer: Tokenizer) -> LM:
    pytest.importorskip("accelerate", reason="lm-eval's HFLM needs accelerate (lm-eval[hf])")
    from lm_eval.models.huggingface import HFLM

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return HFLM(
        pretrained=native(olmo), tokenizer=fast, backend="causal", batch_size=8, max_length=MAX_LENGTH, device="cpu"
    )


@pytest.mark.parametrize("name", CORE8)
def test_equals_lm_eval(name: str, core8: dict[str, TaskRequests], tokenizer: Tokenizer, olmo: OLMo, hflm: LM) -> None:
    task = WheelTask(SOURCES[name], Task(name=name, limit=LIMIT))
    theirs = evaluate(hflm, {name: task}, limit=LIMIT, bootstrap_iters=100, log_samples=True)
    reported = theirs["results"][name]
    per_request = [response[0][0] for sample in theirs["samples"][name] for response in sample["resps"]]

    pack = prepare([core8[name]], tokenizer, eos_token_id=EOS, max_length=MAX_LENGTH, token_budget=2000)
    ours = likelihoods(olmo, pack)
    assert np.abs(ours.log_probability - per_request).max() < 2e-4

    found = {score.metric: score for score in scores(name, records_table(pack, name, ours))}
    metrics = [metric for metric in ("acc", "acc_norm") if f"{metric},none" in reported]
    assert metrics == (["acc"] if name in ("boolq", "winogrande") else ["acc", "acc_norm"])
    for metric in metrics:
        assert found[metric].value == reported[f"{metric},none"]
        assert found[metric].stderr == pytest.approx(reported[f"{metric}_stderr,none"], rel=1e-12)
        assert found[metric].documents == LIMIT
