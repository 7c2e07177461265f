"""Log-likelihoods of a pack under an ai2-olmo `OLMo`: its body over token trees, its head where a token is predicted.

The body is written anew over the module's own weights, because the module knows neither tree masks nor free rotary
positions; everything runs in fp32 on the device the model is on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from olmo.model import OLMo
from torch import Tensor

from sweep.evaluate.batches import Batch, Batches
from sweep.evaluate.body import Body
from sweep.evaluate.pack import Pack
from sweep.evaluate.scratch import Scratch

BATCH_NUMBERS = 3 * 2**19
"""Size of a batch's hidden states: it holds about seven times that at once."""
HEAD_ROWS, HEAD_COLUMNS = 512, 1024
"""Logits computed at a time: they stay in a CPU's cache between the product and the sum."""
EXP_LIMIT = 60.0
"""Logits certainly below this in size are summed as exponentials without taking their maximum off first."""


def log_likelihoods(model: OLMo, pack: Pack, *, progress: Callable[[int], None] | None = None) -> NDArray[np.float64]:
    """(R,) summed log-probability of each request's continuation, in nats.

    `progress` is told of the nodes done, `pack.num_nodes` in all. ValueError for a model this engine can't run.
    """
    body = Body(model)
    work = Batches(pack, body.device, most_nodes=max(1, BATCH_NUMBERS // body.config.d_model))
    scored = np.empty(len(pack.target), dtype=np.float32)
    with _workers(body.device) as pool:
        for index, part in enumerate(pool.map(lambda index: _log_probabilities(body, work[index]), range(len(work)))):
            scored[work.target[index] : work.target[index + 1]] = part
            if progress is not None:
                progress(int(work.node[index + 1] - work.node[index]))
    total = np.zeros(len(pack.document))
    np.add.at(total, pack.target_request, scored)
    return total


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that run batches; on a CPU as many as torch has, each computing alone.

    A tiny model's operations are too short to share one among threads, and so the bits don't depend on their number.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(num_threads if device.type == "cpu" else 1) as pool:
            yield pool
    finally:
        torch.set_num_threads(num_threads)


@torch.inference_mode()
def _log_probabilities(body: Body, batch: Batch) -> NDArray[np.float32]:
    """Log-probability of each predicted token of a batch."""
    hidden = body.hidden(batch)
    normalizer = _log_normalizers(hidden, body.head, body.scratch)
    logit = (hidden[batch.target_row] * body.head[batch.target]).sum(1)
    return (logit - normalizer[batch.target_row]).cpu().numpy()


def _log_normalizers(hidden: Tensor, head: Tensor, scratch: Scratch) -> Tensor:
    """(S,) log-sum-exp of the logits of each row of `hidden` (S, D), block by block."""
    # no logit exceeds the product of the norms
    small = bool(hidden.norm(dim=1).max() * head.norm(dim=1).max() < EXP_LIMIT)
    parts = []
    for rows in hidden.split(HEAD_ROWS):
        scaled = rows / math.log(2) if small else rows  # torch has a faster exp2 than exp
        logits = (
            torch.mm(scaled, columns.T, out=scratch.take("logits", len(rows), len(columns)))
            for columns in head.split(HEAD_COLUMNS)
        )
        if small:
            parts.append(torch.stack([block.exp2_().sum(1) for block in logits]).sum(0).log_())
        else:
            parts.append(torch.stack([block.logsumexp(1) for block in logits]).logsumexp(0))
    return torch.cat(parts)
