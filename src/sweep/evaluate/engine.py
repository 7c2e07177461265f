"""Log-likelihoods of a pack under an ai2-olmo `OLMo`: its body over token trees, its head where a token is predicted.

The body is written anew over the module's own weights, because the module knows neither tree masks nor free rotary
positions; everything runs in fp32 on the device the model is on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from olmo.model import OLMo
from torch import Tensor

from sweep.evaluate.batches import batches
from sweep.evaluate.body import Body
from sweep.evaluate.pack import Pack

HEAD_ROWS, HEAD_COLUMNS = 512, 1024
"""Logits computed at a time: they stay in a CPU's cache between the product and the sum."""
EXP_LIMIT = 60.0
"""Logits certainly below this in size are summed as exponentials without taking their maximum off first."""


@torch.inference_mode()
def log_likelihoods(model: OLMo, pack: Pack, *, progress: Callable[[int], None] | None = None) -> NDArray[np.float64]:
    """(R,) summed log-probability of each request's continuation, in nats.

    `progress` is told of the nodes done, `pack.num_nodes` in all. ValueError for a model this engine can't run.
    """
    body = Body(model)
    scored = torch.empty(len(pack.target), dtype=torch.float32)
    done = 0
    for batch in batches(pack, body.device):
        hidden = body.hidden(batch)
        normalizer = _log_normalizers(hidden, body.head)
        logit = (hidden[batch.target_row] * body.head[batch.target]).sum(1)
        scored[done : done + len(logit)] = logit - normalizer[batch.target_row]
        done += len(logit)
        if progress is not None:
            progress(len(batch.ids))
    total = np.zeros(len(pack.document))
    np.add.at(total, pack.target_request, scored.numpy())
    return total


def _log_normalizers(hidden: Tensor, head: Tensor) -> Tensor:
    """(S,) log-sum-exp of the logits of each row of `hidden` (S, D), block by block."""
    # no logit exceeds the product of the norms
    small = bool(hidden.norm(dim=1).max() * head.norm(dim=1).max() < EXP_LIMIT)
    parts = []
    for rows in hidden.split(HEAD_ROWS):
        logits = (rows @ columns.T for columns in head.split(HEAD_COLUMNS))
        if small:
            parts.append(torch.stack([block.exp_().sum(1) for block in logits]).sum(0).log_())
        else:
            parts.append(torch.stack([block.logsumexp(1) for block in logits]).logsumexp(0))
    return torch.cat(parts)
