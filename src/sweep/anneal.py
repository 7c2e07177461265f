"""The loop: it follows an array of learning rates and knows no shape.

The update is ai2-olmo's (`olmo/train.py`, `train_step`): summed cross-entropy over the batch's B*T input tokens,
gradients clipped by their global norm, AdamW at the rate of this update.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from olmo.model import OLMo

from sweep.health import check_finite
from sweep.records import StepRecord

IGNORED = -100
UPDATE_NORM_INTERVAL = 10
"""The update's norm is measured every so many updates: it costs 1 to 3 % of an update on a CPU."""


def anneal(
    model: OLMo,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[np.ndarray],
    learning_rates: np.ndarray,
    *,
    max_grad_norm: float | None,
    z_loss: float = 0.0,
    first_update: int = 1,
    tokens_before: int = 0,
) -> Iterator[StepRecord]:
    """One update a batch (B, T) of token ids, at its learning rate; yields after each.

    Raises Diverged where the loss or the gradient's norm is not finite; that update yields no record.
    """
    model.train()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    device = parameters[0].device
    tokens = tokens_before
    started = time.perf_counter()
    for update, (batch, lr) in enumerate(zip(batches, learning_rates, strict=True), first_update):
        optimizer.zero_grad(set_to_none=True)
        ids = torch.as_tensor(batch, device=device)
        loss, objective = _losses(model, ids, z_loss)
        objective.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        old = None if update % UPDATE_NORM_INTERVAL else [p.detach().clone() for p in parameters]
        optimizer.step()
        tokens += ids.numel()
        now = time.perf_counter()
        record = StepRecord(
            update=update,
            lr=float(lr),
            loss=float(loss),
            grad_norm=float(grad_norm),
            param_norm=float(torch.nn.utils.get_total_norm(parameters)),
            tokens=tokens,
            seconds=now - started,
            update_norm=None if old is None else _distance(old, parameters),
        )
        check_finite(record)
        yield record
        started = time.perf_counter()


@torch.no_grad()
def _distance(old: list[torch.Tensor], new: list[torch.Tensor]) -> float:
    """L2 norm of all of new - old; `old` is overwritten."""
    torch._foreach_sub_(old, new)
    return float(torch.nn.utils.get_total_norm(old))


def _losses(model: OLMo, ids: torch.Tensor, z_loss: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(cross-entropy, what is minimised), both in nats a token of the batch.

    The last position has no label: ignoring it costs less than slicing it off, whose backward copies all logits.
    """
    logits = model(ids).logits
    logits = logits.view(-1, logits.shape[-1])
    labels = F.pad(ids[:, 1:], (0, 1), value=IGNORED).view(-1)
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / ids.numel()
    if not z_loss:
        return loss.detach(), loss
    penalty = z_loss * logits.logsumexp(-1).pow(2)[labels != IGNORED].sum() / ids.numel()
    return loss.detach(), loss + penalty
