"""A model of transformers is read, scored and exported with its own numbers, whatever its family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sweep.checkpoints import export_folder, import_folder, load_model, read_config
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.evaluate.decoder import Decoder
from sweep.evaluate.engine import likelihoods
from sweep.evaluate.pack import Pack, RequestColumns, assemble, column_arrays
from sweep.evaluate.trees import Chain, token_trees
from sweep.models import architecture_of, build
from tests.models_of_transformers import FAMILIES, config_json, tiny

CPU = torch.device("cpu")
IDS = torch.arange(2, 50)[None]


@pytest.fixture(scope="module")
def chains() -> list[Chain]:
    """Three documents with three answers each, and one long text."""
    rng = np.random.default_rng(0)
    contexts = [rng.integers(2, 512, size) for size in (30, 60, 31) for _ in range(3)]
    answers = [rng.integers(2, 512, 1 + number % 5) for number in range(9)]
    texts = [np.concatenate(pair).astype(np.int32) for pair in zip(contexts, answers, strict=True)]
    long = rng.integers(2, 512, 120).astype(np.int32)
    scored = [Chain(number, text, len(answers[number])) for number, text in enumerate(texts)]
    return [*scored, Chain(9, long, 119)]


@pytest.fixture(scope="module")
def pack(chains: list[Chain]) -> Pack:
    columns = column_arrays(len(chains), document=0, characters=1, bytes=1, gold=True, greedy=True)
    requests = RequestColumns(tasks=("t",), subjects=("",), **columns)
    return assemble(requests, token_trees(chains, [number // 3 for number in range(10)]), token_budget=150)


def by_lm_eval(model: Any, chains: list[Chain]) -> tuple[list[float], list[bool]]:
    """Log-probability of each chain, and whether its tokens are the likeliest, by lm-eval's HFLM."""
    pytest.importorskip("accelerate", reason="lm-eval's HFLM needs accelerate (lm-eval[hf])")
    from lm_eval.models.huggingface import HFLM

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained_tokenizer(["a text"], vocab_size=300), eos_token="<|endoftext|>"
    )
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=4, max_length=1024, device="cpu")
    cut = [len(chain.tokens) - chain.num_scored for chain in chains]
    pairs = [(chain.tokens[:at].tolist(), chain.tokens[at:].tolist()) for at, chain in zip(cut, chains, strict=True)]
    requests = [((str(number), ""), *pair) for number, pair in enumerate(pairs)]
    answers = theirs._loglikelihood_tokens(requests, disable_tqdm=True)
    return [answer[0] for answer in answers], [answer[1] for answer in answers]


@pytest.mark.parametrize("family", FAMILIES)
def test_trees_and_plain_texts_are_scored_as_by_lm_eval(family: str, chains: list[Chain], pack: Pack) -> None:
    model = tiny(family)
    expected, likeliest = by_lm_eval(model, chains)
    decoder = Decoder(model)
    assert decoder.trees
    for decoder.trees in (True, False):
        answers = likelihoods(decoder, pack)
        assert np.abs(answers.log_probability - expected).max() < 1e-4
        assert answers.greedy is not None and answers.greedy.tolist() == likeliest


def test_a_model_that_takes_no_trees_is_scored_text_by_text(
    chains: list[Chain], pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = tiny("bloom", n_head=4, seq_length=1024)  # its positions are biases of its own
    expected, _ = by_lm_eval(model, chains)
    answers = likelihoods(model, pack)
    assert np.abs(answers.log_probability - expected).max() < 1e-4
    assert "scoring bloom text by text" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_comes_in_and_goes_out_with_the_same_logits(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    folder, tokenizer = tmp_path / "theirs", tmp_path / "tokenizer.json"
    model.save_pretrained(folder)
    tokenizer.write_text(trained_tokenizer(["a text"], vocab_size=300).to_str())
    training = {"optimizer": {"name": "adamw"}, "global_train_batch_size": 2}
    import_folder(folder, tmp_path / "ours", training=training, step=3, tokens=6 * 1024)
    config = read_config(tmp_path / "ours", optimizer=False)
    ours = load_model(tmp_path / "ours", config, device=CPU).eval()
    rules = TextRules(eos_token_id=0)
    export_folder(tmp_path / "ours", config, tmp_path / "out", tokenizer=tokenizer, rules=rules)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        expected = model(IDS).logits
        torch.testing.assert_close(ours(IDS).logits, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs(IDS).logits, expected, atol=1e-5, rtol=0)


def test_a_model_that_is_built_takes_a_state_dict_of_transformers_names() -> None:
    model = tiny("qwen2")
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    made = build(config_json("qwen2"))
    architecture_of(made).load(made, weights)
    with torch.no_grad():
        assert torch.equal(made(IDS).logits, model(IDS).logits)
    del weights["model.norm.weight"]
    with pytest.raises(ValueError, match=r"have no model\.norm\.weight"):
        architecture_of(made).load(made, weights)


@pytest.mark.parametrize(
    ("family", "more", "complaint"),
    [
        ("mixtral", {"num_local_experts": 4}, r"model_type=mixtral is a mixture of 4 experts \(num_local_experts\)"),
        ("qwen2_moe", {"num_experts": 8}, r"model_type=qwen2_moe is a mixture of 8 experts"),
        ("gpt2", {"attn_pdrop": 0.0, "embd_pdrop": 0.0}, r"model_type=gpt2 has resid_dropout=0\.1|dropout=0\.1"),
        ("llama", {"attention_dropout": 0.2}, r"model_type=llama has attention_dropout=0\.2"),
    ],
)
def test_what_can_not_be_annealed_faithfully_is_refused_by_name(
    family: str, more: dict[str, Any], complaint: str
) -> None:
    model = build(config_json(family, **more), device="meta")
    with pytest.raises(Refusal, match=complaint):
        architecture_of(model).check_annealable()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "qwen4"}, r"model_type=qwen4 is no causal language model .*did you mean qwen"),
        ({"model_type": "t5"}, "model_type=t5 is no causal language model"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"hidden_act": "magic"}, "config.json: transformers makes no model of it"),
        ({"vocab_size": "many"}, "config.json"),
        ({"rope_scaling": {"rope_type": "${oc.env:HOME}"}}, r"has \$\{ in one of its values"),
    ],
)
def test_a_config_json_of_no_model_is_refused(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**config_json("qwen2"), **change}))
    save_file({"model.norm.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=complaint):
        import_folder(tmp_path, tmp_path / "in", training={}, step=1, tokens=1024)


def test_no_code_of_a_checkpoint_is_looked_for() -> None:
    told = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "attn_implementation": "someone/kernel"}
    assert type(build({**config_json("qwen2"), **told}, device="meta")).__module__.startswith("transformers.")
