"""A byte-level BPE trained on the corpus itself, in the `tokenizers` library's own file format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

EOS, EOS_ID = "<|endoftext|>", 0
PADDING, PADDING_ID = "<|padding|>", 1
MIN_VOCAB_SIZE = 256 + 2
MAX_VOCAB_SIZE = 2**16
"""Ids are stored as uint16."""
PIECE = r"'(?:[stmd]|ll|re|ve)| ?[A-Za-zÀ-ɏ]+| ?[0-9]+| ?[^A-Za-zÀ-ɏ0-9 \n]+|[ \n]+"
"""GPT-2's split in classes spelt out, so that Python's `re` and the tokenizer's Oniguruma cut the same pieces."""
_CHUNK = 4096


def trained_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """A lossless BPE of at most `vocab_size` entries; the same texts give the same file."""
    if not MIN_VOCAB_SIZE <= vocab_size <= MAX_VOCAB_SIZE:
        raise ValueError(f"vocab_size is {vocab_size}; allowed is {MIN_VOCAB_SIZE} to {MAX_VOCAB_SIZE}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[tuple[float, list[list[int]]]]:
    """Token ids of the texts, a few thousand at a time, with the fraction then done.

    Equal to `tokenizer.encode` and four times faster: a text is cut here, and each different piece encoded once.
    """
    pieces = re.compile(PIECE).findall
    known = _PieceIds(tokenizer)
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        ids = [list(chain.from_iterable(map(known.__getitem__, pieces(text)))) for text in chunk]
        yield (start + len(chunk)) / len(texts), ids


class _PieceIds(dict[str, list[int]]):
    """Token ids of pieces, filled as they are met."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(piece, add_special_tokens=False).ids
        self[piece] = ids
        return ids
