"""The objective: cross-entropy as ai2-olmo counts it, and its z-loss, with their gradient written over the logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F

IGNORED = -100
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Logits turned into gradients at a time: on a CPU what its cache holds, on a GPU what keeps it busy."""


@torch.no_grad()
def loss_and_gradient(logits: torch.Tensor, labels: torch.Tensor, *, z_loss: float, tokens: int) -> torch.Tensor:
    """Cross-entropy of logits (B, T, V) in nats, summed over labels (B, T), over `tokens`; `logits` become the gradient

    of it and of the z-loss, for `logits.backward(logits)`. Labels are the ids that the logits come from, or IGNORED;
    the last position has none. All is computed in fp32, whatever the logits' dtype, a few rows at a time: PyTorch's own
    keeps three more matrices of their size, and is a fifth of an update of the smallest model.
    """
    rows = logits.view(-1, logits.shape[-1])
    labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED).view(-1, 1)
    places, weights = labels.clamp_min(0), (labels != IGNORED) * torch.full((), 1 / tokens, device=logits.device)
    said = torch.empty(labels.shape, device=logits.device)
    size = max(1, CHUNK[logits.device.type] // rows.shape[-1])
    for part, place, weight, said_part in zip(*(x.split(size) for x in (rows, places, weights, said)), strict=True):
        gradient = F.log_softmax(part, -1, dtype=torch.float32)
        torch.gather(gradient, -1, place, out=said_part)
        factor = weight
        if z_loss:
            log_z = part.gather(-1, place).float() - said_part
            factor = weight * (1 + 2 * z_loss * log_z)
        gradient.exp_().mul_(factor).scatter_add_(-1, place, -weight)
        part.copy_(gradient)
    # as one row's only class, so that the sum is the one that PyTorch's cross-entropy makes, to the bit
    return F.nll_loss(said, labels.view(-1).clamp_max(0), ignore_index=IGNORED, reduction="sum") / tokens
