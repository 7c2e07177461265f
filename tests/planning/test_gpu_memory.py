"""The arithmetic of memory agrees with what autograd keeps of a pass, and with published sizes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from olmo.config import ActivationCheckpointingStrategy, TrainConfig
from olmo.model import OLMo

from sweep.planning.gpu_memory import Memory, Pass, memory_bytes
from sweep.planning.model_sizes import Sizes

OLMO_7B = Sizes(d_model=4096, num_layers=32, kv_width=4096, hidden_size=22016, embedding_size=50304, tied=False)
PASS_7B = Pass(sequence_length=2048, micro_batch_size=2, bf16=True, activation_checkpointing=True)


def kept_bytes(model: OLMo, ids: torch.Tensor, *, bf16: bool) -> int:
    """Bytes that autograd keeps of a forward pass, the fp32 weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False),
    ):
        model(ids)
    return sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in weights)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_formula_is_what_autograd_keeps(train_config: TrainConfig, bf16: bool, checkpointing: bool) -> None:
    sizes = train_config.model
    sizes.d_model, sizes.n_heads, sizes.n_layers, sizes.mlp_ratio, sizes.max_sequence_length = 64, 4, 3, 8, 96
    model = OLMo(sizes)
    block_parameters = sum(p.numel() for p in model.transformer.blocks[0].parameters())
    stated = Sizes(
        d_model=64, num_layers=3, kv_width=64, hidden_size=8 * 64, embedding_size=sizes.vocab_size, tied=True
    )
    assert stated.block_parameters == block_parameters
    work = Pass(sequence_length=96, micro_batch_size=2, bf16=bf16, activation_checkpointing=checkpointing)
    if checkpointing:
        model.set_activation_checkpointing(ActivationCheckpointingStrategy.whole_layer)
    formula = memory_bytes(stated, work, ranks=1)
    expected = formula.activations + formula.copies
    if checkpointing:  # the block that is computed again is not there yet
        plain = dataclasses.replace(work, activation_checkpointing=False)
        inside = memory_bytes(dataclasses.replace(stated, num_layers=1), plain, ranks=1)
        nothing = memory_bytes(dataclasses.replace(stated, num_layers=0), plain, ranks=1)
        expected -= inside.activations - nothing.activations + 2 * block_parameters * bf16
    found = kept_bytes(model, torch.ones(2, 96, dtype=torch.long), bf16=bf16)
    assert found == pytest.approx(expected, rel=0.1 if checkpointing else 0.02), "norms' statistics come on top"


def of_7b(*, ranks: int = 1, **chosen: Any) -> Memory:
    return memory_bytes(OLMO_7B, dataclasses.replace(PASS_7B, **chosen), ranks=ranks)


def test_olmo_7b_by_hand() -> None:
    parameters = 32 * 202_375_168 + 2 * 50304 * 4096
    assert of_7b().state == 16 * parameters
    assert of_7b(ranks=8).state == 2 * parameters
    assert of_7b(ranks=8).logits == 2 * 2048 * 50304 * 2
    assert of_7b(ranks=8).total < 40e9 < of_7b(ranks=8, activation_checkpointing=False).total < 80e9 < of_7b().total


@pytest.mark.parametrize("less", [{"ranks": 8}, {"activation_checkpointing": True}, {"micro_batch_size": 1}])
def test_what_saves_memory_saves_it(less: dict[str, Any]) -> None:
    plain = {"ranks": 2, "activation_checkpointing": False}
    assert of_7b(**{**plain, **less}).total < of_7b(**plain).total
