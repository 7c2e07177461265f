"""The body of an ai2-olmo `OLMo` (OLMo 1 and OLMo 2) over token trees, computed from the module's own weights.

Elementwise operations run on blocks of rows, which stay in a CPU's cache from one operation to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from olmo.model import OLMo
from torch import Tensor

from sweep.evaluate.buffers import CPU, GPU, BatchSizes, Scratch
from sweep.evaluate.matmul import Matmul
from sweep.evaluate.transformer_weights import Block, blocks, check_supported, fp32, norm
from sweep.evaluate.tree_batches import ALL_BEFORE, SegmentGroup, TreeBatch, narrowed


class Body:
    """The weights of an OLMo, ready to run over trees. Refusal if its architecture is not supported."""

    def __init__(self, model: OLMo, sizes: BatchSizes | None = None) -> None:
        self.config = model.config
        check_supported(self.config)
        self.sizes = sizes or (GPU if model.device.type == "cuda" else CPU)
        self.device = model.device
        self.scratch = Scratch(model.device)
        self.width: int = self.config.d_model
        """Numbers of a hidden state."""
        self.head_dim = self.config.d_model // self.config.n_heads
        kv_width = self.config.effective_n_kv_heads * self.head_dim
        self.widths = [self.config.d_model, kv_width, kv_width]
        transformer = model.transformer
        self.embedding = fp32(transformer.wte.weight)
        self.final_norm = norm(transformer.ln_f)
        self.blocks = blocks(model)
        self.windows: list[int] = getattr(self.config, "windows", None) or [ALL_BEFORE] * len(self.blocks)
        """Of each layer the nodes that a node attends to, itself among them."""
        head = self.embedding if self.config.weight_tying else fp32(transformer.ff_out.weight)
        self.head = head / math.sqrt(self.config.d_model) if self.config.scale_logits else head
        self.head_parts = [Matmul(rows) for rows in self.head.split(self.sizes.head_columns)]
        self.head_norm = float(self.head.norm(dim=1).max())
        """No logit exceeds this times the norm of the hidden state."""

    def reset(self) -> None:
        """Give back the memory that is kept between batches."""
        self.scratch = Scratch(self.device)

    def hidden(self, batch: TreeBatch) -> Tensor:
        """(S, D) normed final hidden states of the nodes that predict."""
        token = self.embedding.index_select(0, batch.token)
        x = token.index_select(0, batch.ids)
        rotation = self._rotation(batch)
        qkv = self.scratch.take("qkv", len(x), sum(self.widths))
        q, kv = qkv.split([self.widths[0], 2 * self.widths[1]], dim=-1)
        groups = {window: narrowed(batch.groups, batch.position, window) for window in {*self.windows}}
        # before the first attention a node depends on its token alone, so each token is projected once
        projected = self._project(self.blocks[0], token, qkv.new_empty(len(token), qkv.shape[1]))
        for layer, block in enumerate(self.blocks):
            for rows in self._slices(len(x)):
                if layer == 0:
                    torch.index_select(projected, 0, batch.ids[rows], out=qkv[rows])
                else:
                    self._project(block, x[rows], qkv[rows])
                self._rotate(qkv[rows], rotation[rows])
            if layer < len(self.blocks) - 1:
                attended = self._attend(q, kv, groups[self.windows[layer]])
            else:  # after the last keys and values only the nodes that predict matter
                x, q = x.index_select(0, batch.row), q.index_select(0, batch.row)
                of_rows = batch.position.index_select(0, batch.row)
                attended = self._attend(q, kv, narrowed(batch.row_groups, of_rows, self.windows[layer]))
            for rows in self._slices(len(x)):
                self._residual(block, x[rows], attended[rows])
        return self.final_norm(x)

    def _project(self, block: Block, x: Tensor, out: Tensor) -> Tensor:
        """Queries, keys and values into `out`, before their rotation."""
        block.att_proj.into(x if self.config.norm_after else block.attn_norm(x), out=out)
        if self.config.clip_qkv is not None:
            out.clamp_(-self.config.clip_qkv, self.config.clip_qkv)
        if block.q_norm is not None and block.k_norm is not None:
            q, k, _ = out.split(self.widths, dim=-1)
            q.copy_(block.q_norm(q))
            k.copy_(block.k_norm(k))
        return out

    def _rotation(self, batch: TreeBatch) -> Tensor:
        """(N, 1, head_dim / 2) the complex number of size 1 that rotates each pair of a node's features."""
        exponent = torch.arange(0, self.head_dim, 2, device=self.device, dtype=torch.float) / self.head_dim
        position = torch.arange(batch.num_positions, device=self.device, dtype=torch.float)
        angle = position[:, None, None] * (1.0 / self.config.rope_theta**exponent)
        return torch.polar(torch.ones_like(angle), angle).index_select(0, batch.position)

    def _rotate(self, qkv: Tensor, rotation: Tensor) -> None:
        """Rotate the queries and keys in place."""
        pairs = qkv[:, : -self.widths[2]].unflatten(-1, (-1, self.head_dim // 2, 2))
        torch.view_as_complex(pairs).mul_(rotation)

    def _attend(self, q: Tensor, kv: Tensor, groups: Iterable[SegmentGroup]) -> Tensor:
        """(queries, D) the outputs of the heads, before `attn_out`."""
        out = self.scratch.take("attended", *q.shape)
        for group in groups:
            seen = kv[group.queries] if group.key is None else kv.index_select(0, group.key)
            query, key, value = (
                part.unflatten(0, (group.num_segments, -1)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
                for part in (q[group.queries], *seen.chunk(2, -1))
            )
            causal = group.key is None and group.mask is None
            heads = F.scaled_dot_product_attention(
                query, key, value, group.mask, is_causal=causal, enable_gqa=query.shape[1] != key.shape[1]
            )
            out[group.queries] = heads.transpose(1, 2).flatten(2).flatten(0, 1)
        return out

    def _residual(self, block: Block, x: Tensor, attended: Tensor) -> None:
        """Turn the input `x` of a layer into its output, in place, from the outputs of its heads."""
        if self.config.norm_after:
            x += block.attn_norm(self._times(block.attn_out, attended, "residual"))
            x += block.ff_norm(self._times(block.ff_out, self._gated(block, x), "residual"))
        else:
            x += self._times(block.attn_out, attended, "residual")
            x += self._times(block.ff_out, self._gated(block, block.ff_norm(x)), "residual")

    def _gated(self, block: Block, x: Tensor) -> Tensor:
        """SwiGLU of the feed-forward layer."""
        gate = F.silu(self._times(block.gate, x, "gate"), inplace=True)
        return self._times(block.up, x, "up").mul_(gate)

    def _times(self, product: Matmul, x: Tensor, name: str) -> Tensor:
        """The product, which may lie in the scratch memory of this name."""
        return product(x, out=self.scratch.take(name, len(x), product.width))

    def _slices(self, size: int) -> Iterator[slice]:
        return (slice(begin, begin + self.sizes.rows) for begin in range(0, size, self.sizes.rows))
