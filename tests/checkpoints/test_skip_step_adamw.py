"""AdamW as OLMo-core's SkipStepAdamW computes it, to the bit, against its functions for one tensor and for many."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sweep.checkpoints.olmo_core_config import OlmoCoreRules
from sweep.checkpoints.skip_step_adamw import SkipStepAdamW

LR, BETAS, EPS, DECAY = 1e-2, (0.9, 0.95), 1e-8, 0.1


def adamw_step(p: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, step: Any) -> None:
    """`adamw_step` of OLMo-core 3.0.0 with a step factor of 1."""
    beta1, beta2 = BETAS
    factor = torch.tensor(1.0)
    p.mul_(1 - factor * (LR * DECAY))
    exp_avg.lerp_(grad.type_as(exp_avg), (factor * (1 - beta1)).type_as(exp_avg))
    exp_avg_sq.mul_(1 - factor * (1 - beta2))
    exp_avg_sq.add_(factor * grad * grad, alpha=1 - beta2)
    step_size = LR / (1 - beta1 ** (step + 1))
    denom = (exp_avg_sq.sqrt() / (1 - beta2 ** (step + 1)).sqrt()).add_(EPS)
    p.add_((-step_size * torch.div(exp_avg, denom)).mul_(factor))


def foreach_adamw_step(p: Any, grad: Any, exp_avg: Any, exp_avg_sq: Any, step: Any) -> None:
    """`foreach_adamw_step` of OLMo-core 3.0.0 with a step factor of 1."""
    beta1, beta2 = BETAS
    factor = torch.tensor(1.0)
    torch._foreach_mul_([p], 1 - factor * (LR * DECAY))
    grads = [grad.type_as(exp_avg)]
    for average, new, beta in ((exp_avg, grads, beta1), (exp_avg_sq, torch._foreach_mul(grads, grads), beta2)):
        torch._foreach_mul_([average], 1.0 - factor * (1 - beta))
        torch._foreach_add_([average], torch._foreach_mul(new, factor * (1 - beta)))
    counts = torch.stack([step])
    denoms = torch._foreach_sqrt([exp_avg_sq])
    torch._foreach_div_(denoms, (1 - torch.pow(beta2, counts + 1)).sqrt().unbind())
    torch._foreach_add_(denoms, EPS)
    updates = torch._foreach_div([exp_avg], denoms)
    torch._foreach_mul_(updates, (-factor * (LR / (1 - torch.pow(beta1, counts + 1)))).unbind())
    torch._foreach_add_([p], updates)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize(("moments", "foreach"), [("bfloat16", True), ("bfloat16", False), ("float32", True)])
def test_an_update_is_olmo_cores(moments: str, foreach: bool, counts: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(9, 5, generator=generator))
    rules = OlmoCoreRules(moments=moments, foreach=foreach, counts_steps=counts)
    optimizer = SkipStepAdamW([parameter], rules, lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    theirs = parameter.detach().clone()
    exp_avg, exp_avg_sq = (torch.zeros_like(theirs, dtype=getattr(torch, moments)) for _ in range(2))
    step = torch.zeros(())
    for _ in range(12):
        parameter.grad = torch.randn(9, 5, generator=generator)
        optimizer.step()
        (foreach_adamw_step if foreach else adamw_step)(theirs, parameter.grad, exp_avg, exp_avg_sq, step)
        step += counts
    state = optimizer.state[parameter]
    if moments == "bfloat16":
        assert torch.equal(parameter, theirs)
        assert torch.equal(state["exp_avg"], exp_avg)
        assert torch.equal(state["exp_avg_sq"], exp_avg_sq)
    torch.testing.assert_close(parameter.detach(), theirs, atol=1e-6, rtol=0)
    assert float(state["step"]) == float(step)
