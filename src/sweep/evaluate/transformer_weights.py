"""The weights of an ai2-olmo `OLMo` in fp32, as the scoring engine needs them. Refuses what the engine cannot run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from olmo.config import ActivationType, BlockType, LayerNormType, ModelConfig
from olmo.model import LayerNormBase, OLMo, OLMoSequentialBlock
from torch import Tensor

from sweep.domain.errors import Refusal
from sweep.evaluate.matmul import Matmul


@dataclass(frozen=True)
class Norm:
    """A layer norm over the last dimension."""

    rms: bool
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        if not self.rms:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        x = F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x if self.bias is None else x + self.bias


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer. In each head of its queries and keys, features that are rotated together are neighbours."""

    att_proj: Matmul
    attn_out: Matmul
    up: Matmul
    gate: Matmul
    ff_out: Matmul
    attn_norm: Norm
    ff_norm: Norm
    q_norm: Norm | None
    k_norm: Norm | None


def check_supported(config: ModelConfig) -> None:
    """Refusal if the architecture is not supported."""
    allowed = {
        "block_type": BlockType.sequential,
        "activation_type": ActivationType.swiglu,
        "rope": True,
        "alibi": False,
        "embedding_layer_norm": False,
        "include_bias": False,
    }
    for name, value in allowed.items():
        if getattr(config, name) != value:
            raise Refusal(f"model.{name}: {getattr(config, name)} is not supported for scoring; only {value} is")


def blocks(model: OLMo) -> list[Block]:
    """The layers, lowest first."""
    transformer = model.transformer
    groups = [transformer.blocks] if model.config.block_group_size == 1 else transformer.block_groups
    return [_block(block, model.config.d_model // model.config.n_heads) for group in groups for block in group]


def norm(module: LayerNormBase, order: Tensor | None = None) -> Norm:
    """The norm of a module, with its features in another `order` if one is given."""
    weight, bias = (None if p is None else fp32(p) for p in (module.weight, module.bias))
    if order is not None:
        weight, bias = (None if p is None else p[order] for p in (weight, bias))
    return Norm(module.config.layer_norm_type == LayerNormType.rms, weight, bias, module.eps)


def fp32(parameter: Tensor) -> Tensor:
    """The values of a parameter in fp32, without autograd."""
    return parameter.detach().float()


def _block(block: OLMoSequentialBlock, head_dim: int) -> Block:
    q, k, v = fp32(block.att_proj.weight).split(block.fused_dims)
    up, gate = fp32(block.ff_proj.weight).chunk(2)
    q_order, k_order = (_pairs(len(part), head_dim) for part in (q, k))
    return Block(
        att_proj=Matmul(torch.cat((q[q_order], k[k_order], v))),
        attn_out=Matmul(fp32(block.attn_out.weight)),
        up=Matmul(up),
        gate=Matmul(gate),
        ff_out=Matmul(fp32(block.ff_out.weight)),
        attn_norm=norm(block.attn_norm),
        ff_norm=norm(block.ff_norm),
        q_norm=None if block.q_norm is None else norm(block.q_norm, q_order),
        k_norm=None if block.k_norm is None else norm(block.k_norm, k_order),
    )


def _pairs(width: int, head_dim: int) -> Tensor:
    """(width,) an order of features that makes neighbours of those that are rotated together.

    A rotation takes one from each half of a head.
    """
    return torch.arange(width).view(-1, 2, head_dim // 2).transpose(1, 2).flatten()
