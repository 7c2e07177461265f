"""OLMo-core's SkipStepAdamW leaves out an update whose loss or gradient is far above those of the updates before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sweep.domain.records import StepRecord


@dataclass(frozen=True, kw_only=True)
class SkipRule:
    """When an update is skipped: weights and moments stay as they are, and the batch is consumed."""

    sigma: float
    """An update is skipped if its loss or its gradient's norm is more than so many standard deviations above the mean
    of those before."""
    window: int
    """Updates over which the mean is taken, the last ones. None is skipped before half of them are done."""
    of_norms: bool
    """Whether the gradient's norm counts; in OLMo-core it does where gradients are clipped."""


class Skipping:
    """Decides update by update. It knows those since the checkpoint alone: checkpoints don't hold the others."""

    def __init__(self, rule: SkipRule, before: Sequence[StepRecord]) -> None:
        """`before`: the updates since the checkpoint."""
        self.rule = rule
        self._losses = deque((step.loss for step in before), maxlen=rule.window)
        self._norms = deque((step.grad_norm for step in before), maxlen=rule.window)

    def skips(self, loss: float, grad_norm: float) -> bool:
        """Whether this update, the next one, is skipped."""
        values = [(self._losses, loss), *([(self._norms, grad_norm)] if self.rule.of_norms else [])]
        enough = len(self._losses) + 1 >= max(2, self.rule.window // 2)
        skipped = enough and any(self._is_high(value, before) for before, value in values)
        self._losses.append(loss)
        self._norms.append(grad_norm)
        return skipped

    def _is_high(self, value: float, before: deque[float]) -> bool:
        """Computed as in OLMo-core, in float32."""
        std, mean = torch.std_mean(torch.tensor([*before]))
        return not bool(torch.tensor(value) - mean <= self.rule.sigma * std)
