"""ai2-olmo's model with attention in windows, which OLMo 3 has and ai2-olmo's own blocks do not."""

from __future__ import annotations

from typing import Any

import torch
from olmo.config import ModelConfig
from olmo.model import BufferCache, OLMo, OLMoSequentialBlock


class WindowedBlock(OLMoSequentialBlock):
    """A block in which a token attends to itself and the tokens before it within a window."""

    window: int = -1

    def _scaled_dot_product_attention(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, attn_mask: Any = None, **options: Any
    ) -> torch.Tensor:
        """Attention of (B, heads, T, head_dim); this is the one place where ai2-olmo's blocks attend."""
        length = q.shape[-2]
        if attn_mask is None and length > self.window:
            position = torch.arange(length, device=q.device)
            distance = position[:, None] - position
            attn_mask = (distance >= 0) & (distance < self.window)
            options["is_causal"] = False
        return super()._scaled_dot_product_attention(q, k, v, attn_mask, **options)


def build_model(config: ModelConfig) -> OLMo:
    """ai2-olmo's model of this architecture, with windows where it has some; its parameters are not set."""
    model = OLMo(config, init_params=False)
    cache = BufferCache()
    for layer, window in enumerate(getattr(config, "windows", None) or []):
        if window != -1:
            block = WindowedBlock(layer, config, cache)
            block.window = window
            model.transformer.blocks[layer] = block
    return model
