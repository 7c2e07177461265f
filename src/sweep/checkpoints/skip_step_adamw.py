"""The AdamW of OLMo-core's SkipStepAdamW (`olmo_core/optim/adamw.py`), where it differs from torch's.

Which updates it skips is decided by whoever calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from sweep.checkpoints.olmo_core_config import OlmoCoreRules


class SkipStepAdamW(torch.optim.AdamW):
    """AdamW whose step count may stay where it is, and whose moments may be in a lower precision."""

    def __init__(self, params: Iterable[Any], rules: OlmoCoreRules, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.rules = rules

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update. Moments in fp32 are torch's own matter; others are rounded as OLMo-core rounds them."""
        if self.rules.moments == "float32":
            loss = super().step(closure)
        else:
            loss = None
            for group in self.param_groups:
                self._update(group)
        if not self.rules.counts_steps:
            torch._foreach_sub_([self.state[p]["step"] for p in self._with_gradient()], 1.0)
        return loss

    def _with_gradient(self) -> list[Any]:
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _update(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        dtype = getattr(torch, self.rules.moments)
        for p in parameters:
            if p not in self.state:
                empty = {name: torch.zeros_like(p, dtype=dtype) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": torch.zeros((), device=p.device), **empty}
        states = [self.state[p] for p in parameters]
        averages, squares = ([_local(state[name]) for state in states] for name in ("exp_avg", "exp_avg_sq"))
        gradients = [_local(p.grad) for p in parameters]
        values, (beta1, beta2) = [_local(p) for p in parameters], group["betas"]
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        steps = [state["step"] for state in states]
        torch._foreach_add_(steps, 1.0)
        move = _move_together if self.rules.foreach else _move_one_by_one
        move(averages, squares, gradients, (beta1, beta2))
        counts = torch.stack(steps)
        rates = (-group["lr"] / (1 - torch.pow(beta1, counts))).unbind()
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - torch.pow(beta2, counts)).sqrt().unbind())
        torch._foreach_add_(roots, group["eps"])
        updates = list(torch._foreach_div(averages, roots))
        if self.rules.foreach:
            torch._foreach_mul_(updates, rates)
        else:  # a factor in front is rounded to the tensor's own precision first, one behind is not
            updates = [rate * update for rate, update in zip(rates, updates, strict=True)]
        torch._foreach_add_(values, updates)


def _move_together(averages: list[Any], squares: list[Any], gradients: list[Any], betas: tuple[float, float]) -> None:
    """Both moments, each operation on all tensors (`foreach_adamw_step`); gradients are rounded first."""
    rounded = [g.type_as(average) for g, average in zip(gradients, averages, strict=True)]
    new1, new2 = (torch.tensor(1.0, device=rounded[0].device) * (1 - beta) for beta in betas)
    torch._foreach_mul_(averages, 1.0 - new1)
    torch._foreach_add_(averages, torch._foreach_mul(rounded, new1))
    squared = torch._foreach_mul(rounded, rounded)
    torch._foreach_mul_(squares, 1.0 - new2)
    torch._foreach_add_(squares, torch._foreach_mul(squared, new2))


def _move_one_by_one(averages: list[Any], squares: list[Any], gradients: list[Any], betas: tuple[float, float]) -> None:
    """Both moments, tensor by tensor (`adamw_step`); the squares take gradients as they are."""
    one = torch.tensor(1.0, device=gradients[0].device)
    for average, square, gradient in zip(averages, squares, gradients, strict=True):
        average.lerp_(gradient.type_as(average), (one * (1 - betas[0])).type_as(average))
        square.mul_(1 - one * (1 - betas[1]))
        square.add_(one * gradient * gradient, alpha=1 - betas[1])


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local
