"""The loss is PyTorch's cross-entropy over B*T tokens, and its gradient PyTorch's to rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sweep.training import loss as module
from sweep.training.loss import IGNORED, loss_and_gradient

B, T, V = 3, 7, 50


@pytest.fixture(params=[None, 4], ids=["all rows at once", "a few rows at a time"], autouse=True)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setitem(module.CHUNK, "cpu", request.param * V)


def expected(logits: torch.Tensor, labels: torch.Tensor, z_loss: float, tokens: int) -> torch.Tensor:
    """The objective in PyTorch's own words."""
    shifted, wanted = logits[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1)
    z = (shifted.logsumexp(-1).pow(2) * (wanted != IGNORED)).sum()
    return (F.cross_entropy(shifted, wanted, reduction="sum") + z_loss * z) / tokens


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
@pytest.mark.parametrize("ignored", [False, True])
def test_loss_and_gradient_equal_pytorchs(z_loss: float, ignored: bool) -> None:
    torch.manual_seed(0)
    labels, logits = torch.randint(V, (B, T)), 3 * torch.randn(B, T, V)
    if ignored:
        labels[1] = IGNORED
    theirs = logits.clone().requires_grad_()
    expected(theirs, labels, z_loss, 40).backward()
    wanted = expected(logits, labels, 0.0, 40)
    loss = loss_and_gradient(logits, labels, z_loss=z_loss, tokens=40)
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(logits, theirs.grad, rtol=1e-5, atol=1e-8)
    assert logits[:, -1].abs().max() == 0, "the last position has no label"
    assert not ignored or logits[1].abs().max() == 0


def test_bf16_logits_lose_nothing_but_the_rounding_of_their_gradient() -> None:
    torch.manual_seed(0)
    labels, logits = torch.randint(V, (B, T)), (3 * torch.randn(B, T, V)).bfloat16()
    exact = logits.float()
    loss = loss_and_gradient(exact, labels, z_loss=0.1, tokens=40)
    assert loss_and_gradient(logits, labels, z_loss=0.1, tokens=40) == loss
    assert torch.equal(logits, exact.bfloat16())
