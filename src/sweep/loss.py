"""The objective: cross-entropy as ai2-olmo counts it, and its z-loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

IGNORED = -100


def losses(
    logits: torch.Tensor, labels: torch.Tensor, *, z_loss: float, tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(cross-entropy, what is minimised) of fp32 logits (B, T, V), in nats summed over labels (B, T), over `tokens`.

    Labels are the ids that the logits come from, or IGNORED. The last position has none: ignoring it costs less than
    slicing it off, whose backward copies all logits.
    """
    logits = logits.view(-1, logits.shape[-1])
    labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED).view(-1)
    loss: torch.Tensor = _CrossEntropy.apply(logits, labels) / tokens
    if not z_loss:
        return loss.detach(), loss
    return loss.detach(), loss + z_loss * logits.logsumexp(-1).pow(2)[labels != IGNORED].sum() / tokens


class _CrossEntropy(torch.autograd.Function):
    """F.cross_entropy's sum, whose backward writes the gradient over the log-probabilities.

    PyTorch's own fills a matrix of zeros for the labels and writes the gradient into a third one: 15 % of an update of
    the smallest model. A second backward pass is an error.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        log_probabilities = F.log_softmax(logits, -1)
        ctx.save_for_backward(log_probabilities, labels)
        return F.nll_loss(log_probabilities, labels, ignore_index=IGNORED, reduction="sum")

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        log_probabilities, labels = ctx.saved_tensors
        weight = (upstream[0] * (labels != IGNORED)).unsqueeze(-1)
        gradient = log_probabilities.exp_().mul_(weight)
        return gradient.scatter_add_(-1, labels.clamp_min(0).unsqueeze(-1), -weight), None
