"""CLIP's text encoder: open_clip's causal transformer, pooled at the end token, without its projection."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, scaled_dot_product_attention

from mmssl.models.dialects import text_part
from mmssl.models.text.base import TextEncoder, TextEncoderConfig, positions_cut


class ClipTextConfig(TextEncoderConfig):
    """The transformer of CLIP (Radford et al., ICML 2021, section 2.4), by default a small one."""

    kind: Literal["clip"] = "clip"
    mlp_ratio: PositiveFloat = 4.0
    """Width of the MLPs, relative to ``width``."""
    activation: Literal["gelu", "quick_gelu"] = "gelu"
    """``quick_gelu`` is x·σ(1.702·x): what OpenAI's weights need."""


class ClipText(TextEncoder):
    """Tokens (B, context) int64 to the normalised state at the end token, (B, width).

    A token sees those before it only, so padding after the end token changes nothing, and in the last layer
    only the end token matters: neither padding nor that layer's other tokens are worked out, attention aside.
    """

    config: ClipTextConfig

    def __init__(self, config: ClipTextConfig) -> None:
        from open_clip.transformer import QuickGELU, TextTransformer  # slow to import, and few runs need it

        super().__init__(config)
        self.net = TextTransformer(
            context_length=config.context,
            vocab_size=self.tokenizer.vocabulary,
            width=config.width,
            heads=config.heads,
            layers=config.layers,
            mlp_ratio=config.mlp_ratio,
            output_dim=None,
            pad_id=self.tokenizer.pad,
            eos_id=self.tokenizer.end,
            pool_type="eos",
            act_layer=QuickGELU if config.activation == "quick_gelu" else nn.GELU,
        )

    def forward(self, tokens: Tensor) -> Tensor:
        net: Any = self.net
        ends = (tokens == self.tokenizer.end).int().argmax(dim=1)
        tokens = tokens[:, : int(ends.max()) + 1]
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        real = (places <= ends[:, None]).flatten().nonzero()[:, 0]
        # (real tokens, width), one caption behind the other; embedding and index_select, unlike an index in
        # brackets, add up gradients in the same order whatever the number of threads
        x = net.token_embedding(tokens.flatten()[real])
        x = x + embedding(places.flatten()[real], net.positional_embedding)
        for block in net.transformer.resblocks:
            seen = _causal_attention(block.attn, block.ln_1(x), real, tokens.shape)
            if block is net.transformer.resblocks[-1]:
                last = (ends + 1).cumsum(dim=0) - 1
                x, real = x.index_select(0, last), real[last]
            x = x + block.attn.out_proj(seen.index_select(0, real))
            x = x + block.mlp(block.ln_2(x))
        return net.ln_final(x)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As they are, or the text tower of open_clip's or transformers' CLIP.

        Of a longer table of positions the first ``context`` are taken.
        """
        tower = text_part(state)
        own = state if tower is None else {f"net.{key}": value for key, value in tower.items()}
        return positions_cut(own, "net.positional_embedding", self.context)


def _causal_attention(attention: Any, x: Tensor, real: Tensor, shape: torch.Size) -> Tensor:
    """What every token gathers from itself and those before it, heads side by side, not yet projected.

    Args:
        attention: an ``nn.MultiheadAttention``.
        x: (N, width) states of real tokens.
        real: (N,) where these are among all B·n tokens, counted row by row.
        shape: B, n.

    Returns:
        (B·n, width); whatever stands at padding means nothing.
    """
    qkv = linear(x, attention.in_proj_weight, attention.in_proj_bias)
    padded = qkv.new_zeros(shape.numel(), qkv.shape[1]).index_copy_(0, real, qkv)
    q, k, v = padded.view(*shape, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(shape.numel(), -1)
