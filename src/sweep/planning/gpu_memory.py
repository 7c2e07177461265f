"""How much memory an anneal takes on each rank: arithmetic on sizes, to be said before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

FP32, BF16 = 4, 2


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one rank's device at the peak of an update."""

    state: int
    """fp32 weights, gradients and Adam's two moments, sharded over the ranks (ZeRO-3, arXiv 1910.02054)."""
    gathered: int
    """What FSDP puts together for the block at work and its neighbour, and for the root: weights and gradients."""
    copies: int
    """bf16 copies of the weights that autocast makes and the backward pass keeps; they are not sharded."""
    activations: int
    """What the blocks, the last norm and the head keep for the backward pass."""
    logits: int
    """Logits in the pass's dtype, which their gradient overwrites; it is computed a few rows at a time."""

    @property
    def total(self) -> int:
        """All of it; PyTorch's own allocations and fragments come on top."""
        return self.state + self.gathered + self.copies + self.activations + self.logits


def memory_bytes(
    *,
    block_parameters: int,
    num_layers: int,
    d_model: int,
    hidden_size: int,
    vocab_size: int,
    tied: bool,
    sequence_length: int,
    micro_batch_size: int,
    bf16: bool,
    activation_checkpointing: bool,
    ranks: int,
) -> Memory:
    """Memory of a pass over `micro_batch_size` instances on each of `ranks`; `hidden_size` is that of SwiGLU's input.

    ai2-olmo's `OLMoSequentialBlock`, with fused attention and no dropout, keeps for each token its two fp32 residuals
    (8 d_model bytes) and in the pass's dtype the inputs of its matrices, q, k and v, q and k rotated, and SwiGLU's two
    factors, silu and product: 8 d_model + 2 hidden_size numbers. With checkpointing it keeps its input (4 d_model) and
    one block at a time the rest. tests/test_memory.py measures it.
    """
    tokens, width = micro_batch_size * sequence_length, BF16 if bf16 else FP32
    root = d_model * vocab_size * (1 if tied else 2)
    parameters = num_layers * block_parameters + root
    inside = tokens * (2 * FP32 * d_model + width * (8 * d_model + 2 * hidden_size))
    kept = num_layers * FP32 * tokens * d_model + inside if activation_checkpointing else num_layers * inside
    last = tokens * (FP32 + width) * d_model
    in_use = (block_parameters if activation_checkpointing else num_layers * block_parameters) + root
    return Memory(
        state=-(-4 * FP32 * parameters // ranks),
        gathered=2 * FP32 * (2 * block_parameters + root) if ranks > 1 else 0,
        copies=BF16 * in_use if bf16 else 0,
        activations=kept + last,
        logits=width * tokens * vocab_size,
    )
