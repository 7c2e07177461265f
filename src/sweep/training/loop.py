"""The loop: it follows an array of learning rates and knows no shape.

The update is ai2-olmo's (`olmo/train.py`, `train_step`): summed cross-entropy over the batch's B*T input tokens,
gradients clipped by their global norm, AdamW at the rate of this update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from olmo.config import ActivationCheckpointingStrategy
from olmo.model import OLMo

from sweep.domain.records import StepRecord
from sweep.system.ranks import ALONE, Ranks
from sweep.training.divergence import check_finite
from sweep.training.loss import IGNORED, loss_and_gradient

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
    masked: Callable[[np.ndarray], np.ndarray] | None = None,
    precision: str = "fp32",
    micro_batch_size: int | None = None,
    first_update: int = 1,
    tokens_before: int = 0,
    ranks: Ranks = ALONE,
) -> Iterator[StepRecord]:
    """One update a batch (B, T) of token ids, at its learning rate; yields after each.

    With precision "bf16" the forward and backward pass run under bf16 autocast, as in ai2-olmo's amp_bf16. Gradients of
    `micro_batch_size` instances at a time add up to the batch's. Over several `ranks` the model is sharded and each has
    an equal part of the batch: gradients and losses are their means, norms those of the whole. Instances that `masked`
    says, (B, T) -> (B,) bool, are in no loss, but count among the batch's tokens, as in ai2-olmo.

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
        loss = torch.zeros((), device=device)
        labels = ids
        if masked is not None and (hidden := masked(batch)).any():
            labels = ids.masked_fill(torch.as_tensor(hidden, device=device).unsqueeze(-1), IGNORED)
        size = micro_batch_size or len(ids)
        for part in zip(ids.split(size), labels.split(size), strict=True):
            loss += _pass(model, *part, z_loss=z_loss, precision=precision, tokens=ids.numel())
        loss = ranks.mean(loss)
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        update_norm = None
        if update % UPDATE_NORM_INTERVAL:
            optimizer.step()
        else:
            update_norm = _measured_step(optimizer)
        tokens += ids.numel() * ranks.size
        record = StepRecord(
            update=update,
            lr=float(lr),
            loss=float(loss),
            grad_norm=float(grad_norm),
            param_norm=float(torch.nn.utils.get_total_norm(parameters)),
            update_norm=update_norm,
            tokens=tokens,
            seconds=time.perf_counter() - started,  # after the figures above, which wait for the device
        )
        check_finite(record)
        yield record
        started = time.perf_counter()


def prepare(model: OLMo, *, activation_checkpointing: bool, compile: bool) -> None:
    """Set up a model, in place, for passes that keep less or run compiled."""
    if activation_checkpointing:
        model.set_activation_checkpointing(ActivationCheckpointingStrategy.whole_layer)
    if compile:
        for block in model.transformer.blocks:
            block.compile()


@torch.no_grad()
def _measured_step(optimizer: torch.optim.Optimizer) -> float:
    """`optimizer.step()`, to the bit, and the L2 norm of what it changes; keeps a copy of one parameter at a time."""
    groups, squares = optimizer.param_groups, 0.0
    for group in groups:
        for parameter in group["params"]:
            old = parameter.detach().clone()
            optimizer.param_groups = [{**group, "params": [parameter]}]
            optimizer.step()
            squares += float(torch.nn.utils.get_total_norm([old.sub_(parameter)])) ** 2
    optimizer.param_groups = groups
    return math.sqrt(squares)


def _pass(
    model: OLMo, ids: torch.Tensor, labels: torch.Tensor, *, z_loss: float, precision: str, tokens: int
) -> torch.Tensor:
    """Add the gradient of ids (B, T) to the parameters; their cross-entropy over the batch's `tokens`, in nats."""
    # no cache: it would keep a bf16 copy of every weight, and none is used twice in a pass
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        logits = model(ids).logits
    loss = loss_and_gradient(logits.detach(), labels, z_loss=z_loss, tokens=tokens)
    logits.backward(logits.detach())
    return loss
