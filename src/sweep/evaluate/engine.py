"""Log-likelihoods of a pack: the body of a model over token trees, its head where tokens are predicted.

The body of ai2-olmo's `OLMo` is written anew over the module's own weights, because the module knows neither tree masks
nor free rotary positions; a model of transformers runs its own forward pass (`decoder.py`). Everything runs in fp32 on
the model's device.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from olmo.model import OLMo
from torch import Tensor, nn

from sweep.evaluate.decoder import Decoder
from sweep.evaluate.pack import Likelihoods, Pack
from sweep.evaluate.transformer import Body
from sweep.evaluate.tree_batches import TreeBatch, TreeBatches
from sweep.system.ranks import ALONE, Ranks

log = logging.getLogger(__name__)

FEWEST_NODES = 32
"""Batches are not halved below this: what does not fit then never will."""
NODE_WIDTHS = 7
"""Numbers that a batch holds at once for each node, about, in units of the model's width."""
EXP_LIMIT = 60.0
"""Logits certainly smaller than this are summed as exponentials without subtracting their maximum first."""

Answers = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""For each predicted token its log-probability in nats, and whether it is the likeliest token."""


def body_of(model: nn.Module) -> Body | Decoder:
    """A model, ready to score packs; Refusal for one that this engine cannot run."""
    return Body(model) if isinstance(model, OLMo) else Decoder(model)


def likelihoods(
    model: nn.Module | Body | Decoder,
    pack: Pack,
    *,
    ranks: Ranks = ALONE,
    progress: Callable[[int], None] | None = None,
) -> Likelihoods:
    """The model's answers to the requests of a pack. For several packs, make its `body_of` once.

    Several `ranks`, which all call this, share the work, and each gets the whole result. `progress` is called with the
    number of nodes just done; over all ranks they add up to `pack.num_nodes`.
    """
    body = model if isinstance(model, Body | Decoder) else body_of(model)
    greedy = bool(pack.greedy.any())
    log_probability = np.zeros(len(pack.target), dtype=np.float32)
    likeliest = np.zeros(len(pack.target), dtype=np.uint8)
    batches = TreeBatches(pack, body.device)

    def keep(span: slice, answers: Answers) -> None:
        targets = batches.targets(span)
        log_probability[targets], likeliest[targets] = answers
        if progress is not None:
            progress(batches.nodes(span))

    _score_batches(body, batches, ranks, keep, greedy=greedy)
    ranks.total(torch.from_numpy(log_probability))  # 0 where another rank scored, so that the sum is exact
    ranks.total(torch.from_numpy(likeliest))
    summed = np.zeros(len(pack.document))
    np.add.at(summed, pack.target_request, log_probability)
    missed = np.bincount(pack.target_request, weights=likeliest == 0, minlength=len(pack.document))
    return Likelihoods(log_probability=summed, greedy=missed == 0 if greedy else None)


def _score_batches(
    body: Body | Decoder, batches: TreeBatches, ranks: Ranks, keep: Callable[[slice, Answers], None], *, greedy: bool
) -> None:
    """Call `keep` with the answers of each of this rank's spans of batches.

    If one needs more memory than there is, go on with half as many nodes, down to a single batch of the pack.
    """
    num_nodes, sizes = batches.pack.num_nodes, body.sizes
    wanted = max(sizes.fewest, num_nodes // sizes.parts)
    most = min(wanted, max(sizes.nodes, most_nodes(body, sizes.memory)))
    todo = batches.cut(most)[ranks.rank :: ranks.size]
    while todo:
        try:
            with _workers(body.device) as pool:
                for answers in pool.map(lambda span: _answers(body, batches, span, greedy=greedy), todo.copy()):
                    keep(todo.pop(0), answers)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or most < FEWEST_NODES:
                raise
            most //= 2
            todo = [piece for span in todo for piece in batches.cut(most, span)]
            body.reset()
            log.warning("scoring ran out of memory: going on with %d positions a batch", most)
        if body.device.type == "cuda" and todo:  # only here the frames of the error hold no tensors any more
            torch.cuda.empty_cache()


def most_nodes(body: Body | Decoder, memory: int) -> int:
    """Nodes of a batch whose activations take about `memory` bytes."""
    return max(1, memory // (4 * NODE_WIDTHS * body.width))


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, on a GPU or a CPU, or Python ran out of memory."""
    messages = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # a CPU's allocator; a GPU's matrix products
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in messages)


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that run batches. On a CPU there are as many as torch has, and each computes alone.

    The operations of a tiny model are too short to be shared by threads, and this way the bits do not depend on the
    number of threads. For a GPU one thread lays out a batch while the other computes one.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(num_threads if device.type == "cpu" else 2)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


def _answers(body: Body | Decoder, batches: TreeBatches, span: slice, *, greedy: bool) -> Answers:
    """The answers for a span of batches. Without `greedy` all tokens count as the likeliest."""
    if isinstance(body, Decoder):
        return body.scored(batches.pack, span, greedy=greedy)
    return _scored(body, batches[span], greedy=greedy)


@torch.inference_mode()
def _scored(body: Body, batch: TreeBatch, *, greedy: bool) -> Answers:
    hidden = body.hidden(batch)
    normalizer = _log_normalizers(hidden, body)
    logit = (hidden[batch.target_row] * body.head[batch.target]).sum(1)
    scored = (logit - normalizer[batch.target_row]).cpu().numpy()
    if not greedy:
        return scored, np.ones(len(scored), dtype=np.bool_)
    likeliest = torch.cat([_likeliest(rows, body) for rows in hidden.split(body.sizes.head_rows)])
    return scored, (likeliest[batch.target_row] == batch.target).cpu().numpy()


def _likeliest(hidden: Tensor, body: Body) -> Tensor:
    """(S,) the token with the largest logit; the first one if several are equal."""
    width = body.sizes.head_columns
    blocks = [(hidden @ columns.T).max(1) for columns in body.head.split(width)]
    value, token = (torch.stack([getattr(block, name) for block in blocks]) for name in ("values", "indices"))
    block = value.argmax(0)
    return width * block + token.gather(0, block[None])[0]


def _log_normalizers(hidden: Tensor, body: Body) -> Tensor:
    """(S,) log-sum-exp of the logits of each row of `hidden` (S, D), block by block."""
    small = bool(hidden.norm(dim=1).max() * body.head_norm < EXP_LIMIT)
    parts = []
    for rows in hidden.split(body.sizes.head_rows):
        scaled = rows / math.log(2) if small else rows  # torch's exp2 is faster than its exp
        logits = (part(scaled, out=body.scratch.take("logits", len(rows), part.width)) for part in body.head_parts)
        if small:
            parts.append(torch.stack([block.exp2_().sum(1) for block in logits]).sum(0).log_())
        else:
            parts.append(torch.stack([block.logsumexp(1) for block in logits]).logsumexp(0))
    return torch.cat(parts)
