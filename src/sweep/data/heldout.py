"""Held-out documents on disk: their token ids end to end without eos, the start of each, and the size of its text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from sweep.data.overlap import Shared
from sweep.data.texts import TokenFormat, documents, is_text
from sweep.data.tokenizer import encoded

TOKENS, OFFSETS, BYTES, CHARACTERS = (f"heldout{part}.npy" for part in ("", "_offsets", "_bytes", "_characters"))
FORM = "heldout.json"
"""Says the data type of the tokens, and what was left out; a folder without it has uint16."""
RUN, WHOLE = 13, 8
"""Words in a row shared with training text that drop a document, and the least length of one that counts whole.

GPT-3's bounds (arXiv 2005.14165, app. C).
"""
TOGETHER = 1000
"""Documents that are looked at together."""


class Heldout(NamedTuple):
    """D documents of T tokens together."""

    tokens: np.ndarray
    """(T,) uint16 or uint32, without eos."""
    offsets: np.ndarray
    """(D + 1,) int64 into the tokens."""
    bytes: np.ndarray
    """(D,) int64: UTF-8 bytes of each text."""
    characters: np.ndarray
    """(D,) int64."""


class Written(NamedTuple):
    """What a held-out set was made of."""

    documents: int
    tokens: int
    dropped: int
    """Documents that share words in a row with training text."""


def write_heldout(folder: Path, texts: Sequence[str], tokenizer: Tokenizer) -> int:
    """Turn documents into tokens of an embedded model, and write these into `folder`; returns how many there are."""
    return _write(folder, texts, list(chain.from_iterable(ids for _, ids in encoded(tokenizer, texts))), "uint16")


def make_heldout(
    folder: Path,
    files: Sequence[Path],
    form: TokenFormat,
    *,
    tokenizer: Tokenizer,
    against: Sequence[Path] = (),
    ends: Sequence[int] = (),
) -> Written:
    """Write the documents of text or token files into `folder`, without those that share words with `against`.

    They are tokenised by `tokenizer`, the model's. `form` has tokenizer and data type of all token files; what ends a
    document in them is that tokenizer's eos, or one of `ends`. ValueError names a file that can't be read, or says that
    no document is left.
    """
    texts = [text for text in file_documents(files, form, ends) if text]
    shared = Shared(texts, run=RUN, shortest=WHOLE)
    for others in _together(file_documents(against, form, ends)):
        shared.look_at(others)
    kept = [text for text, known in zip(texts, shared.texts, strict=True) if not known]
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(kept, add_special_tokens=False)]
    whole = [(text, tokens) for text, tokens in zip(kept, ids, strict=True) if tokens]
    dropped = len(texts) - len(kept)
    if not whole:
        raise ValueError(f"no text in {', '.join(map(str, files[:3]))}; {dropped} documents are in the training text")
    dtype = "uint16" if tokenizer.get_vocab_size() <= 1 << 16 else "uint32"
    tokens = _write(folder, [text for text, _ in whole], [tokens for _, tokens in whole], dtype)
    made = Written(len(whole), tokens, dropped)
    (folder / FORM).write_text(json.dumps({"dtype": dtype, **made._asdict()}, indent=1) + "\n")
    return made


def file_documents(files: Sequence[Path], form: TokenFormat, ends: Sequence[int] = ()) -> Iterator[str]:
    """The texts of text files, and the decoded documents of token files."""
    for file in files:
        if is_text(file.name):
            yield from documents([file])
        else:
            yield from _decoded(file, form, ends)


def _decoded(file: Path, form: TokenFormat, ends: Sequence[int]) -> Iterator[str]:
    """The texts of a token file; ValueError if it isn't of this data type, tokenizer and end of a document."""
    size, dtype = file.stat().st_size, np.dtype(form.dtype)
    if size % dtype.itemsize:
        raise ValueError(f"{file} has {size} bytes, which are no whole number of {dtype} tokens")
    with file.open("rb") as raw:
        if raw.read(6) == b"\x93NUMPY":
            raise ValueError(f"{file} has a NumPy header; token files are raw (write them with `array.tofile`)")
    tokens = np.fromfile(file, dtype=dtype)
    if len(tokens) and int(tokens.max()) >= (most := form.tokenizer.get_vocab_size()):
        raise ValueError(
            f"{file} holds token id {tokens.max()} read as {dtype}, and the tokenizer has {most}: another tokenizer "
            "made it, or it has another data type"
        )
    ids = [end for end in (form.rules.eos_token_id, *ends) if end >= 0]
    counts = {end: int((tokens == end).sum()) for end in ids}
    end = max(ids, key=counts.__getitem__, default=-1)
    if not counts.get(end):
        raise ValueError(f"{file} has no token {' or '.join(map(str, ids)) or 'known'} to end its documents (--end ID)")
    special = {end, *form.rules.before, *form.rules.after}
    cuts = np.flatnonzero(tokens == end)
    for part in np.split(tokens, cuts):
        inner = [token for token in part.tolist() if token not in special]
        yield form.tokenizer.decode(inner, skip_special_tokens=False)


def _together(texts: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == TOGETHER:
            yield group
            group = []
    if group:
        yield group


def _write(folder: Path, texts: Sequence[str], ids: Sequence[Sequence[int]], dtype: str) -> int:
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    np.fromiter(chain.from_iterable(ids), dtype=dtype).tofile(folder / TOKENS)
    np.save(folder / OFFSETS, offsets)
    np.save(folder / BYTES, np.array([len(text.encode()) for text in texts], dtype=np.int64))
    np.save(folder / CHARACTERS, np.array([len(text) for text in texts], dtype=np.int64))
    return int(offsets[-1])


def heldout_texts(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """The texts of the held-out documents, decoded."""
    found = read_heldout(folder)
    documents = np.split(found.tokens, found.offsets[1:-1])
    return tokenizer.decode_batch([document.tolist() for document in documents], skip_special_tokens=True)


def heldout_files(folder: Path) -> list[Path]:
    """The files that decide a held-out set, which name its scores."""
    form = folder / FORM
    return [*sorted(folder.glob("heldout*.npy")), *([form] if form.is_file() else [])]


def read_heldout(folder: Path) -> Heldout:
    """The held-out documents of a folder; ValueError, naming the file, if one is missing, cut, or contradicts."""
    offsets, num_bytes, characters = (_numbers(folder / name) for name in (OFFSETS, BYTES, CHARACTERS))
    dtype, size = _dtype(folder), (folder / TOKENS).stat().st_size
    if size % dtype.itemsize:
        raise ValueError(f"{folder / TOKENS} has {size} bytes, which are no whole number of {dtype} tokens")
    tokens = np.fromfile(folder / TOKENS, dtype=dtype)
    if not len(offsets) - 1 == len(num_bytes) == len(characters) or offsets[-1] != len(tokens):
        raise ValueError(
            f"{folder}: {len(offsets)} offsets up to {offsets[-1] if len(offsets) else None} do not fit "
            f"{len(num_bytes)} documents of {len(tokens)} tokens"
        )
    if offsets[0] != 0 or (np.diff(offsets) < 1).any():
        raise ValueError(f"{folder / OFFSETS}: the offsets must begin at 0, and each document must have a token")
    for name, of_documents in ((BYTES, num_bytes), (CHARACTERS, characters)):
        if (of_documents < 1).any():
            raise ValueError(f"{folder / name}: document {int(np.argmax(of_documents < 1))} has no text")
    return Heldout(tokens, offsets, num_bytes, characters)


def _dtype(folder: Path) -> np.dtype:
    """The data type of the tokens; ValueError if the folder names none that is known."""
    if not (folder / FORM).is_file():
        return np.dtype("uint16")
    try:
        named = json.loads((folder / FORM).read_text())["dtype"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / FORM} names no dtype: {type(error).__name__}: {error}") from error
    if named not in ("uint16", "uint32"):
        raise ValueError(f"{folder / FORM}: dtype={named}; allowed: uint16, uint32")
    return np.dtype(named)


def _numbers(file: Path) -> np.ndarray:
    """An array of whole numbers, (n,); ValueError if the file is something else."""
    try:
        found = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} is cut, or not written by numpy.save: {error}") from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(f"{file} is not a list of whole numbers")
    return found
