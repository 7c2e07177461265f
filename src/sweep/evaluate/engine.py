"""Log-likelihoods of a pack under an ai2-olmo `OLMo`: its body over token trees, its head where a token is predicted.

The body is written anew over the module's own weights, because the module knows neither tree masks nor free rotary
positions; everything runs in fp32 on the device the model is on.
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
from torch import Tensor

from sweep.evaluate.buffers import Scratch
from sweep.evaluate.pack import Likelihoods, Pack
from sweep.evaluate.transformer import Body
from sweep.evaluate.tree_batches import Batch, Batches
from sweep.system.ranks import ALONE, Ranks

log = logging.getLogger(__name__)

FEWEST_NODES = 32
"""Halving ends here: what doesn't fit then never will."""
NODE_WIDTHS = 7
"""Numbers held at once for each node of a batch, about, in widths of the model."""
EXP_LIMIT = 60.0
"""Logits certainly below this in size are summed as exponentials without taking their maximum off first."""


def likelihoods(
    model: OLMo | Body,
    pack: Pack,
    *,
    ranks: Ranks = ALONE,
    progress: Callable[[int], None] | None = None,
) -> Likelihoods:
    """What the model says to each request of a pack; for several packs make its `Body` once.

    Where a batch takes more memory than there is, it goes on with half as many nodes, down to a batch of the pack or a
    tree at a time. Several `ranks`, which all call this, share the work and know all of its result. `progress` is told
    of the nodes done, `pack.num_nodes` over all ranks. Refusal for a model this engine can't run.
    """
    body = model if isinstance(model, Body) else Body(model)
    sizes, greedy = body.sizes, bool(pack.greedy.any())
    scored = np.zeros(len(pack.target), dtype=np.float32)
    likeliest = np.zeros(len(pack.target), dtype=np.uint8)
    work = Batches(pack, body.device)
    wanted = max(sizes.fewest, pack.num_nodes // sizes.parts)
    nodes = min(wanted, max(sizes.nodes, most_nodes(body, sizes.memory)))
    left = work.cut(nodes)[ranks.rank :: ranks.size]
    while left:
        try:
            with _workers(body.device) as pool:
                parts = pool.map(lambda run: _scored(body, work[run], greedy=greedy), left.copy())
                for part in parts:
                    run = left.pop(0)
                    scored[work.targets(run)], likeliest[work.targets(run)] = part
                    if progress is not None:
                        progress(work.nodes(run))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or nodes < FEWEST_NODES:
                raise
            nodes //= 2
            left = [piece for run in left for piece in work.cut(nodes, run)]
            body.scratch = Scratch(body.device)
            log.warning("scoring ran out of memory: going on with %d positions a batch", nodes)
        if body.device.type == "cuda" and left:  # out here the error's frames hold no tensors any more
            torch.cuda.empty_cache()
    ranks.total(torch.from_numpy(scored))  # 0 where another rank scored: the sum is exact
    ranks.total(torch.from_numpy(likeliest))
    total = np.zeros(len(pack.document))
    np.add.at(total, pack.target_request, scored)
    missed = np.bincount(pack.target_request, weights=likeliest == 0, minlength=len(pack.document))
    return Likelihoods(log_probability=total, greedy=missed == 0 if greedy else None)


def log_likelihoods(
    model: OLMo | Body, pack: Pack, *, progress: Callable[[int], None] | None = None
) -> NDArray[np.float64]:
    """(R,) summed log-probability of each request's continuation, in nats."""
    return likelihoods(model, pack, progress=progress).log_probability


def most_nodes(body: Body, memory: int) -> int:
    """Nodes of a batch whose activations take about `memory` bytes."""
    return max(1, memory // (4 * NODE_WIDTHS * body.config.d_model))


def out_of_memory(error: BaseException) -> bool:
    """Whether torch, on a GPU or a CPU, or Python found no memory."""
    said = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")  # a CPU's allocator; a GPU's products
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in said)


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that run batches; on a CPU as many as torch has, each computing alone.

    A tiny model's operations are too short to share one among threads, and so the bits don't depend on their number.
    For a GPU one thread lays a batch out while it computes another's.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(num_threads if device.type == "cpu" else 2)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)


@torch.inference_mode()
def _scored(body: Body, batch: Batch, *, greedy: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Log-probability of each predicted token of a batch, and whether it is the likeliest (true unless `greedy`)."""
    hidden = body.hidden(batch)
    normalizer = _log_normalizers(hidden, body)
    logit = (hidden[batch.target_row] * body.head[batch.target]).sum(1)
    scored = (logit - normalizer[batch.target_row]).cpu().numpy()
    if not greedy:
        return scored, np.ones(len(scored), dtype=np.bool_)
    likeliest = torch.cat([_likeliest(rows, body) for rows in hidden.split(body.sizes.head_rows)])
    return scored, (likeliest[batch.target_row] == batch.target).cpu().numpy()


def _likeliest(hidden: Tensor, body: Body) -> Tensor:
    """(S,) the token with the largest logit, the first of equals."""
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
        scaled = rows / math.log(2) if small else rows  # torch has a faster exp2 than exp
        logits = (part(scaled, out=body.scratch.take("logits", len(rows), part.width)) for part in body.head_parts)
        if small:
            parts.append(torch.stack([block.exp2_().sum(1) for block in logits]).sum(0).log_())
        else:
            parts.append(torch.stack([block.logsumexp(1) for block in logits]).logsumexp(0))
    return torch.cat(parts)
