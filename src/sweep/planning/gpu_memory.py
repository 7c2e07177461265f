"""How much memory an anneal takes on each rank: arithmetic on sizes, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.config import Compute
from sweep.planning.model_sizes import Sizes

FP32, BF16 = 4, 2
"""Bytes of a number."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward and backward pass on each rank."""

    sequence_length: int
    micro_batch_size: int
    """Instances."""
    bf16: bool
    """Whether autocast computes in bf16; otherwise in fp32."""
    activation_checkpointing: bool


def pass_of(compute: Compute, *, sequence_length: int, share: int) -> Pass:
    """The passes of an anneal with these choices, where each rank has `share` instances of the batch."""
    return Pass(
        sequence_length=sequence_length,
        micro_batch_size=min(share, compute.micro_batch_size or share),
        bf16=compute.precision == "bf16",
        activation_checkpointing=compute.activation_checkpointing,
    )


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one rank's device at the peak of an update."""

    state: int
    """fp32 weights, gradients and Adam's two moments, sharded over the ranks (ZeRO-3, arXiv 1910.02054)."""
    gathered: int
    """Weights and gradients that FSDP gathers: of the block at work, of the next one, and of the root."""
    copies: int
    """bf16 copies of the weights, which autocast makes and the backward pass keeps; they are not sharded."""
    activations: int
    """What the blocks, the last norm and the head keep for the backward pass."""
    logits: int
    """Logits in the dtype of the pass. Their gradient overwrites them; it is computed a few rows at a time."""

    @property
    def total(self) -> int:
        """The sum; PyTorch's own allocations and fragmentation come on top."""
        return self.state + self.gathered + self.copies + self.activations + self.logits


def memory_bytes(sizes: Sizes, work: Pass, *, ranks: int) -> Memory:
    """Memory of an update on each of `ranks`.

    For each token, ai2-olmo's `OLMoSequentialBlock` with fused attention and without dropout keeps its two fp32
    residuals (8 d_model bytes), and in the dtype of the pass 8 d_model + 2 hidden_size numbers: the inputs of its
    matrices, q, k and v, the rotated q and k, and SwiGLU's two factors, silu and product. With checkpointing each block
    keeps its input (4 d_model bytes), and only the block at work keeps the rest. tests/planning/test_gpu_memory.py
    measures it.
    """
    tokens, width = work.micro_batch_size * work.sequence_length, BF16 if work.bf16 else FP32
    root = sizes.d_model * sizes.embedding_size * (1 if sizes.tied else 2)
    blocks = sizes.num_layers * sizes.block_parameters
    inside = tokens * (2 * FP32 * sizes.d_model + width * (8 * sizes.d_model + 2 * sizes.hidden_size))
    if work.activation_checkpointing:
        kept, in_use = sizes.num_layers * FP32 * tokens * sizes.d_model + inside, sizes.block_parameters + root
    else:
        kept, in_use = sizes.num_layers * inside, blocks + root
    return Memory(
        state=-(-4 * FP32 * (blocks + root) // ranks),
        gathered=2 * FP32 * (2 * sizes.block_parameters + root) if ranks > 1 else 0,
        copies=BF16 * in_use if work.bf16 else 0,
        activations=kept + tokens * (FP32 + width) * sizes.d_model,
        logits=width * tokens * sizes.embedding_size,
    )
