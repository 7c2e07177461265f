"""The body of an ai2-olmo `OLMo` (OLMo 1 and OLMo 2) over token trees, as functions of the module's own weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from olmo.config import ActivationType, BlockType, LayerNormType, ModelConfig
from olmo.model import LayerNormBase, OLMo, OLMoSequentialBlock
from torch import Tensor

from sweep.evaluate.batches import Batch, Group


@dataclass(frozen=True)
class _Norm:
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
class _Block:
    """The weights of one layer, in fp32."""

    att_proj: Tensor
    attn_out: Tensor
    ff_proj: Tensor
    ff_out: Tensor
    attn_norm: _Norm
    ff_norm: _Norm
    q_norm: _Norm | None
    k_norm: _Norm | None


class Body:
    """An OLMo's weights, ready to run over trees; ValueError where its architecture is not supported."""

    def __init__(self, model: OLMo) -> None:
        self.config = model.config
        _check(self.config)
        self.device = model.device
        self.head_dim = self.config.d_model // self.config.n_heads
        transformer = model.transformer
        self.embedding = _fp32(transformer.wte.weight)
        self.final_norm = _norm(transformer.ln_f)
        self.blocks = [_block(block) for block in _layers(model)]
        scale = 1 / math.sqrt(self.config.d_model) if self.config.scale_logits else 1.0
        self.head = scale * (self.embedding if self.config.weight_tying else _fp32(transformer.ff_out.weight))

    def hidden(self, batch: Batch) -> Tensor:
        """(S, D) final hidden states, normed, of the nodes of a batch that predict."""
        x = F.embedding(batch.ids, self.embedding)
        cos, sin = self._rotary(batch.position)
        for block in self.blocks[:-1]:
            x = self._residual(block, x, self._attend(block, x, cos, sin, batch.groups))
        # above the last attention, only the nodes that predict matter
        block = self.blocks[-1]
        attended = self._attend(block, x, cos, sin, batch.groups)
        x = self._residual(block, x.index_select(0, batch.row), attended.index_select(0, batch.row))
        return self.final_norm(x)

    def _residual(self, block: _Block, x: Tensor, attended: Tensor) -> Tensor:
        """The layer's output from its input and what its heads saw."""
        if self.config.norm_after:
            x = x + block.attn_norm(F.linear(attended, block.attn_out))
            return x + block.ff_norm(_feed_forward(block, x))
        x = x + F.linear(attended, block.attn_out)
        return x + _feed_forward(block, block.ff_norm(x))

    def _attend(self, block: _Block, x: Tensor, cos: Tensor, sin: Tensor, groups: tuple[Group, ...]) -> Tensor:
        """(N, D) the heads' outputs, before `attn_out`."""
        qkv = F.linear(x if self.config.norm_after else block.attn_norm(x), block.att_proj)
        if self.config.clip_qkv is not None:
            qkv.clamp_(-self.config.clip_qkv, self.config.clip_qkv)
        num_heads = (self.config.n_heads, self.config.effective_n_kv_heads, self.config.effective_n_kv_heads)
        q, k, v = qkv.split([heads * self.head_dim for heads in num_heads], dim=-1)
        if block.q_norm is not None and block.k_norm is not None:
            q, k = block.q_norm(q), block.k_norm(k)
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in (q, k, v))
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        out = torch.empty_like(x)
        for group in groups:
            out.index_copy_(0, group.node, _attend_group(q, k, v, group))
        return out

    def _rotary(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (N, 1, head_dim) of each node's position, the first half of the sines negated."""
        exponent = torch.arange(0, self.head_dim, 2, device=self.device, dtype=torch.float) / self.head_dim
        angle = position[:, None, None].float() * (1.0 / self.config.rope_theta**exponent)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def _attend_group(q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
    """(nodes of the group, D) attention of one group; q, k, v (N, heads, head_dim)."""
    query, key, value = (
        part.index_select(0, index).unflatten(0, (group.num_segments, -1)).transpose(1, 2)
        for part, index in ((q, group.query), (k, group.key), (v, group.key))
    )
    grouped = q.shape[1] != k.shape[1]
    out = F.scaled_dot_product_attention(
        query, key, value, group.mask, is_causal=group.mask is None, enable_gqa=grouped
    )
    return out.transpose(1, 2).reshape(len(group.query), -1).index_select(0, group.slot)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.addcmul(x * cos, torch.cat((second, first), -1), sin)


def _feed_forward(block: _Block, x: Tensor) -> Tensor:
    x, gate = F.linear(x, block.ff_proj).chunk(2, -1)
    return F.linear(F.silu(gate).mul_(x), block.ff_out)


def _check(config: ModelConfig) -> None:
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
            raise ValueError(f"model.{name}: {getattr(config, name)} is not supported for scoring; only {value} is")


def _layers(model: OLMo) -> Iterator[OLMoSequentialBlock]:
    if model.config.block_group_size == 1:
        yield from model.transformer.blocks
    else:
        for group in model.transformer.block_groups:
            yield from group


def _block(block: OLMoSequentialBlock) -> _Block:
    return _Block(
        att_proj=_fp32(block.att_proj.weight),
        attn_out=_fp32(block.attn_out.weight),
        ff_proj=_fp32(block.ff_proj.weight),
        ff_out=_fp32(block.ff_out.weight),
        attn_norm=_norm(block.attn_norm),
        ff_norm=_norm(block.ff_norm),
        q_norm=None if block.q_norm is None else _norm(block.q_norm),
        k_norm=None if block.k_norm is None else _norm(block.k_norm),
    )


def _norm(module: LayerNormBase) -> _Norm:
    weight, bias = (None if p is None else _fp32(p) for p in (module.weight, module.bias))
    return _Norm(module.config.layer_norm_type == LayerNormType.rms, weight, bias, module.eps)


def _fp32(parameter: Tensor) -> Tensor:
    return parameter.detach().float()
