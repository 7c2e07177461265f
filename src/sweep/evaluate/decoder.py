"""Log-likelihoods under a causal language model of transformers, through its own forward pass.

The model gets a token tree with a mask and the positions of its nodes. Whether it follows them is tried once, with a
small tree beside the plain texts in it; if it doesn't, plain texts are what it gets.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sweep.evaluate.buffers import CPU, GPU, BatchSizes
from sweep.evaluate.pack import Pack
from sweep.evaluate.paths import Sequences, Span

log = logging.getLogger(__name__)

Answers = tuple[NDArray[np.float32], NDArray[np.bool_]]
MOST_LOGITS = 2**26
"""Logits of a batch: 256 MB in fp32, and as much again while they are normed."""
MOST_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Tokens of a batch, where one sequence has not more."""
MOST_TREE = 8192
"""A mask has the square of so many numbers at most."""
PROBE = (12, 5, 4)
"""Tokens of the context and the two branches of the tree that is tried."""
CLOSE = 1e-3
"""What a tree's logits may differ from a plain text's, in units of their spread: far above fp32's own error."""
KNOWN_LAYERS = {"full_attention", "sliding_attention"}


class Decoder:
    """A model of transformers, ready to score packs."""

    def __init__(self, model: Any, sizes: BatchSizes | None = None) -> None:
        self.model = model
        self.device: torch.device = next(model.parameters()).device
        self.sizes = sizes or (GPU if self.device.type == "cuda" else CPU)
        self.width: int = self._config.hidden_size
        """Numbers of a hidden state."""
        self._rows = threading.local()
        head: Any = self.model.get_output_embeddings()
        self._most_rows = max(1, MOST_LOGITS // self._config.vocab_size)
        head.register_forward_pre_hook(self._only_rows)
        self.trees = self._follows_trees()
        """Whether the model follows masks and positions of trees."""
        if not self.trees:
            log.info(
                "scoring %s text by text: it does not take token trees, which share what texts have in common",
                self._config.model_type,
            )

    @property
    def _config(self) -> Any:
        return self.model.config

    def reset(self) -> None:
        """Nothing is kept between batches."""

    @torch.inference_mode()
    def scored(self, pack: Pack, span: slice, *, greedy: bool) -> Answers:
        """Of each target of a span its log-probability in nats, and whether it is the likeliest token."""
        part = Span.of(pack, span)
        log_probability = np.zeros(len(part.target), dtype=np.float32)
        likeliest = np.ones(len(part.target), dtype=np.bool_)
        trees = self.trees and int(pack.batch_nodes[span].max()) <= MOST_TREE
        most_tokens = MOST_TOKENS[self.device.type]
        for batch in part.sequences(
            trees=trees, most_tokens=most_tokens, most_rows=self._most_rows, device=self.device
        ):
            logits = self.logits(batch)
            chosen = logits[batch.target_row, batch.target]
            answer = chosen - logits.logsumexp(-1)[batch.target_row]
            log_probability[batch.target_index] = answer.cpu().numpy()
            if greedy:
                best = logits.argmax(-1)[batch.target_row]
                likeliest[batch.target_index] = (best == batch.target).cpu().numpy()
        return log_probability, likeliest

    def logits(self, batch: Sequences) -> Tensor:
        """(R, V) the logits of the rows of a batch, in fp32."""
        told: dict[str, Any] = {}
        if batch.seen is not None and batch.positions is not None:
            told = {"attention_mask": self._masks(batch.seen, batch.positions), "position_ids": batch.positions}
        with self._head_at(batch.row):
            return self.model(batch.ids, use_cache=False, **told).logits[0].float()

    def _masks(self, seen: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """What each layer attends to, in the form that the model takes: one mask, or one for each kind of layer."""
        config = self._config
        window = getattr(config, "sliding_window", None)
        if not getattr(config, "use_sliding_window", True):
            window = None

        def added(allowed: Tensor) -> Tensor:
            lowest = torch.finfo(torch.float32).min
            return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, lowest).unsqueeze(1)

        kinds = set(getattr(config, "layer_types", None) or ())
        near = seen if window is None else seen & (positions[:, :, None] - positions[:, None] < window)
        if kinds:
            return {kind: added(near if kind == "sliding_attention" else seen) for kind in sorted(kinds)}
        return added(near)

    @contextmanager
    def _head_at(self, row: tuple[Tensor, Tensor]) -> Iterator[None]:
        """Within the block this thread's passes compute the head at these rows alone."""
        self._rows.wanted = row
        try:
            yield
        finally:
            self._rows.wanted = None

    def _only_rows(self, head: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if (row := getattr(self._rows, "wanted", None)) is None:
            return inputs
        hidden, *rest = inputs
        return (hidden[row].unsqueeze(0), *rest)

    @torch.inference_mode()
    def _follows_trees(self) -> bool:
        """Whether a tree of two texts gives the logits of each alone."""
        if not set(getattr(self._config, "layer_types", None) or ()) <= KNOWN_LAYERS:
            return False
        context, first, second = PROBE
        ids = (torch.arange(sum(PROBE)) * 7 + 3) % self._config.vocab_size
        branch = torch.repeat_interleave(torch.arange(3), torch.tensor(PROBE))
        order = torch.arange(len(ids))
        seen = (order <= order[:, None]) & ((branch == 0) | (branch == branch[:, None]))
        positions = torch.where(branch == 2, order - first, order)
        rows = (torch.zeros(first + second, dtype=torch.long), order[context:])
        empty = torch.zeros(0, dtype=torch.long)

        def logits(ids: Tensor, row: Tensor, positions: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
            batch = Sequences(
                ids=ids[None].to(self.device),
                positions=None if positions is None else positions[None].to(self.device),
                seen=None if seen is None else seen[None].to(self.device),
                row=(torch.zeros_like(row).to(self.device), row.to(self.device)),
                target_row=empty,
                target=empty,
                target_index=empty.numpy(),
            )
            return self.logits(batch)

        plain = [
            logits(ids[(branch == 0) | (branch == number)], torch.arange(context, context + size))
            for number, size in ((1, first), (2, second))
        ]
        try:
            tree = logits(ids, rows[1], positions, seen)
        except Exception as error:  # whatever a forward pass of transformers does with what it doesn't expect
            log.debug("a token tree in %s: %s", type(self.model).__name__, error)
            return False
        expected = torch.cat(plain)
        return bool((tree - expected).abs().max() <= CLOSE * expected.std())
