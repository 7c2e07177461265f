"""Products with weights: the same numbers whichever library makes them, and the choice between libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sweep.evaluate import matmul
from sweep.evaluate.matmul import NARROW, Matmul, library


@pytest.fixture(params=["onednn", "torch"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "onednn" and not matmul._has_onednn():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(matmul, "library", lambda device: request.param)
    return request.param


@pytest.mark.parametrize("width", [NARROW // 2, 2 * NARROW])
def test_a_product_is_that_of_the_definition(width: int, either: str) -> None:
    x, weight = torch.randn(7, width), torch.randn(11, width)
    expected = (x.double() @ weight.double().T).float()
    product = Matmul(weight)
    out = torch.empty(7, product.width)
    assert torch.allclose(product(x, out=out), expected, atol=1e-4)
    product.into(x, out=out)
    assert torch.allclose(out, expected, atol=1e-4)


def test_rows_of_a_larger_tensor_are_written(either: str) -> None:
    x, weight = torch.randn(4, 256), torch.randn(3, 256)
    rows = torch.zeros(10, 3)
    Matmul(weight).into(x, out=rows[2:6])
    assert torch.allclose(rows[2:6], x @ weight.T, atol=1e-4)
    assert not rows[:2].any() and not rows[6:].any()


@pytest.mark.parametrize(
    ("device", "capability", "there", "expected"),
    [
        ("cpu", "AVX512", True, "onednn"),
        ("cpu", "AVX2", True, "torch"),
        ("cpu", "AVX512", False, "torch"),
        ("cuda", "AVX512", True, "torch"),
    ],
)
def test_the_library_follows_from_what_the_cpu_can_do(
    device: str, capability: str, there: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(matmul, "_has_onednn", lambda: there)
    assert library(device) == expected


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN")
def test_the_private_operator_of_this_torch_is_as_we_know_it() -> None:
    """Fails when torch changes it: without it, wide models are scored at three quarters of the speed, by other bits."""
    assert matmul._has_onednn()


def test_an_operator_that_changed_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*_: Any) -> None:
        raise TypeError("takes other arguments")

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", changed)
    assert not matmul._has_onednn()
