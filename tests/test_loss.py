"""The loss is PyTorch's cross-entropy over B*T tokens, and its gradient PyTorch's to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sweep.loss import losses

B, T, V = 3, 7, 50


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_loss_and_gradient_equal_pytorchs(z_loss: float) -> None:
    torch.manual_seed(0)
    ids = torch.randint(V, (B, T))
    ours = (3 * torch.randn(B, T, V)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    loss, objective = losses(ours, ids, z_loss=z_loss, tokens=40)
    (2 * objective).backward()
    shifted = theirs[:, :-1].reshape(-1, V)
    expected = F.cross_entropy(shifted, ids[:, 1:].reshape(-1), reduction="sum") / 40
    (2 * (expected + z_loss * shifted.logsumexp(-1).pow(2).sum() / 40)).backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)
    assert ours.grad[:, -1].abs().max() == 0, "the last position has no label"


def test_a_second_backward_pass_is_an_error_and_no_wrong_gradient() -> None:
    _, objective = losses(torch.randn(B, T, V).requires_grad_(), torch.randint(V, (B, T)), z_loss=0.0, tokens=1)
    objective.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        objective.backward()
