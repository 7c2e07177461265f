"""The training loop. It follows an array of learning rates and knows no shape.

The update is ai2-olmo's (`olmo/train.py`, `train_step`): summed cross-entropy over the batch's B*T input tokens,
gradients clipped by their global norm, AdamW at the learning rate of this update. By its rules it is OLMo-core's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sweep.domain.records import StepRecord
from sweep.models import architecture_of
from sweep.system.ranks import ALONE, Ranks
from sweep.training.divergence import check_finite
from sweep.training.loss import IGNORED, loss_and_gradient
from sweep.training.skipping import Skipping, SkipRule

UPDATE_NORM_INTERVAL = 10
"""The norm of every tenth update is measured: it costs 1 to 3 % of an update on a CPU."""


@dataclass(frozen=True, kw_only=True)
class UpdateRules:
    """How a batch and a learning rate become an update."""

    max_grad_norm: float | None
    """Gradients are clipped to this global norm; None: not clipped."""
    z_loss: float = 0.0
    """Weight of the z-loss in the gradient. The recorded loss does not contain it."""
    masked: Callable[[np.ndarray], np.ndarray] | None = None
    """Token ids (B, T) -> (B,) bool, true for instances that are left out of the loss; None: no instance is.

    They still count among the batch's tokens, as in ai2-olmo.
    """
    counts_last: bool = True
    """Whether an instance's last token, which has no label, counts among the batch's tokens: as in ai2-olmo, and not as
    in OLMo-core."""
    skip: SkipRule | None = None
    """Which updates are skipped; None: none is."""
    precision: str = "fp32"
    """"bf16": forward and backward pass run under bf16 autocast, as in ai2-olmo's amp_bf16."""
    micro_batch_size: int | None = None
    """Instances of one forward and backward pass; their gradients are added. None: the whole batch."""
    ranks: Ranks = ALONE
    """Processes that share the update. Each has a shard of the model and an equal part of the batch."""


def anneal(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[np.ndarray],
    learning_rates: np.ndarray,
    rules: UpdateRules,
    *,
    before: Sequence[StepRecord] = (),
) -> Iterator[StepRecord]:
    """Do one update for each batch (B, T) of token ids, at its learning rate, and yield its record.

    `before` holds the records of the updates that are done; all batches have one size. Raises Diverged if the loss or
    the norm of the gradient is not finite; that update has no record.
    """
    model.train()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    skipping = None if rules.skip is None else Skipping(rules.skip, before)
    started = time.perf_counter()
    for update, (batch, lr) in enumerate(zip(batches, learning_rates, strict=True), len(before) + 1):
        optimizer.zero_grad(set_to_none=True)
        loss = rules.ranks.mean(_add_gradients(model, batch, rules, device=parameters[0].device))
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, rules.max_grad_norm or float("inf"))
        set_rates(optimizer, float(lr))
        skipped = skipping is not None and skipping.skips(float(loss), float(grad_norm))
        measured = update % UPDATE_NORM_INTERVAL == 0
        update_norm = (0.0 if measured else None) if skipped else _step(optimizer, measured=measured)
        record = StepRecord(
            update=update,
            lr=float(lr),
            loss=float(loss),
            grad_norm=float(grad_norm),
            param_norm=float(torch.nn.utils.get_total_norm(parameters)),
            update_norm=update_norm,
            tokens=update * batch.size * rules.ranks.size,
            skipped=skipped,
            seconds=time.perf_counter() - started,  # last, because the figures above wait for the device
        )
        check_finite(record)
        yield record
        started = time.perf_counter()


def set_rates(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group; a group may have a rate of its own, in proportion."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)


def configure_passes(model: nn.Module, *, activation_checkpointing: bool, compile: bool) -> None:
    """Let a model's passes keep fewer activations, or run compiled. Changes the model in place."""
    if activation_checkpointing:
        architecture_of(model).checkpoint_activations(model)
    if compile:
        for block in architecture_of(model).blocks(model):
            block.compile()


def _add_gradients(model: nn.Module, batch: np.ndarray, rules: UpdateRules, *, device: torch.device) -> torch.Tensor:
    """Add the gradient of a batch to the parameters; returns its cross-entropy in nats per token."""
    ids = torch.as_tensor(batch, device=device)
    labels, tokens = ids, ids.numel() - (0 if rules.counts_last else len(ids))
    if rules.masked is not None and (masked := rules.masked(batch)).any():
        labels = ids.masked_fill(torch.as_tensor(masked, device=device).unsqueeze(-1), IGNORED)
        tokens += 0 if rules.counts_last else int(masked.sum())  # of these OLMo-core counts the last token too
    loss = torch.zeros((), device=device)
    size = rules.micro_batch_size or len(ids)
    for micro_ids, micro_labels in zip(ids.split(size), labels.split(size), strict=True):
        # no cache: it would keep a bf16 copy of every weight, and none is used twice in a pass
        bf16 = rules.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            logits = model(micro_ids).logits
        loss += loss_and_gradient(logits.detach(), micro_labels, z_loss=rules.z_loss, tokens=tokens)
        logits.backward(logits.detach())
    return loss


@torch.no_grad()
def _step(optimizer: torch.optim.Optimizer, *, measured: bool) -> float | None:
    """Do `optimizer.step()`; returns the L2 norm of the change if it is `measured`.

    The measured step gives the same bits. It goes parameter by parameter and keeps a copy of one at a time.
    """
    if not measured:
        optimizer.step()
        return None
    groups, squares = optimizer.param_groups, 0.0
    for group in groups:
        for parameter in group["params"]:
            old = parameter.detach().clone()
            optimizer.param_groups = [{**group, "params": [parameter]}]
            optimizer.step()
            squares += float(torch.nn.utils.get_total_norm([old.sub_(parameter)])) ** 2
    optimizer.param_groups = groups
    return math.sqrt(squares)
