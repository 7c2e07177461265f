"""Held-out text as a pack: every token of a document predicted once, in lm-eval's rolling windows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sweep.config.tasks import HELDOUT
from sweep.evaluate.pack import Pack, Requests, assemble
from sweep.evaluate.trees import Chain, grow


def heldout_pack(
    tokens: NDArray[np.integer],
    offsets: NDArray[np.integer],
    *,
    num_characters: NDArray[np.integer],
    num_bytes: NDArray[np.integer],
    eos_token_id: int,
    sequence_length: int,
    token_budget: int,
) -> Pack:
    """A pack with one request a document; document i is `tokens[offsets[i]:offsets[i + 1]]`.

    A document is predicted from the end-of-text token on. An end-of-text token that ends it is not scored: what counts
    is the text, as in lm-eval's `loglikelihood_rolling`. One longer than `sequence_length` is cut into windows; the
    last window reaches back to be full, the others begin one token before what they predict. Characters and bytes are
    those of the document's text. ValueError where a document is empty.
    """
    chains: list[Chain] = []
    for document, (first, last) in enumerate(pairwise(offsets)):
        text = np.asarray(tokens[first:last], dtype=np.int32)
        if len(text) and text[-1] == eos_token_id:
            text = text[:-1]
        if not len(text):
            raise ValueError(f"heldout: document {document} has no tokens to score")
        chains.extend(_windows(document, np.concatenate(([eos_token_id], text)).astype(np.int32), sequence_length))
    count = len(offsets) - 1
    requests = Requests(
        tasks=(HELDOUT,),
        subjects=("",),
        task=np.zeros(count, dtype=np.int16),
        document=np.arange(count, dtype=np.int32),
        choice=np.zeros(count, dtype=np.int16),
        characters=np.asarray(num_characters, dtype=np.int32),
        bytes=np.asarray(num_bytes, dtype=np.int32),
        delimiter=np.zeros(count, dtype=np.int8),
        gold=np.ones(count, dtype=np.bool_),
        subject=np.zeros(count, dtype=np.int32),
        unconditional=np.zeros(count, dtype=np.bool_),
        greedy=np.zeros(count, dtype=np.bool_),
    )
    return assemble(requests, grow(chains, range(len(chains))), token_budget=token_budget)


def _windows(document: int, text: NDArray[np.int32], sequence_length: int) -> Iterator[Chain]:
    """Chains that predict all of `text` but its first token."""
    done = 1
    while done < len(text):
        end = min(done + sequence_length, len(text))
        yield Chain(document, text[max(0, end - sequence_length - 1) : end], end - done)
        done = end
