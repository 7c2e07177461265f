"""Held-out text as a pack: each token of a document is predicted once, in lm-eval's rolling windows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sweep.config.tasks import HELDOUT
from sweep.evaluate.pack import TOKEN_BUDGET, Pack, RequestColumns, assemble, column_arrays
from sweep.evaluate.trees import Chain, token_trees, windows


@dataclass(frozen=True, kw_only=True)
class TextDocuments:
    """D tokenised texts, without end-of-text tokens or each with one at its end."""

    tokens: NDArray[np.integer]
    """The tokens of all documents, one after another."""
    offsets: NDArray[np.integer]
    """(D + 1,) document i is `tokens[offsets[i]:offsets[i + 1]]`."""
    characters: NDArray[np.integer]
    """(D,) length of each text."""
    bytes: NDArray[np.integer]
    """(D,) length of each text in UTF-8."""


def heldout_pack(
    documents: TextDocuments,
    *,
    prefix_token_id: int,
    eos_token_id: int | None,
    sequence_length: int,
    token_budget: int = TOKEN_BUDGET,
) -> Pack:
    """A pack with one request for each document.

    As in lm-eval's `loglikelihood_rolling`, a document is predicted after the prefix token. An `eos_token_id` at its
    end is not scored; None: the last token is scored whatever it is. A document longer than `sequence_length` is cut
    into windows. The last window reaches back so that it is full; the others begin one token before those they predict.
    ValueError if a document is empty.
    """
    chains: list[Chain] = []
    for document, (first, last) in enumerate(pairwise(documents.offsets)):
        text = np.asarray(documents.tokens[first:last], dtype=np.int32)
        if len(text) and text[-1] == eos_token_id:
            text = text[:-1]
        if not len(text):
            raise ValueError(f"heldout: document {document} has no tokens to score")
        tokens = np.concatenate(([prefix_token_id], text)).astype(np.int32)
        chains.extend(windows(document, tokens, len(text), sequence_length))
    count = len(documents.offsets) - 1
    columns = column_arrays(
        count, document=range(count), characters=documents.characters, bytes=documents.bytes, gold=True
    )
    requests = RequestColumns(tasks=(HELDOUT,), subjects=("",), **columns)
    return assemble(requests, token_trees(chains, range(len(chains))), token_budget=token_budget)
