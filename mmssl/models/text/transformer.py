"""CLIP's text encoder: open_clip's causal transformer, pooled at the end token, without its projection."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveFloat
from torch import Tensor, nn

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

    A token sees those before it only, so padding after the end token changes nothing.
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
        return self.net(tokens)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As they are, or the text tower of open_clip's or transformers' CLIP.

        Of a longer table of positions the first ``context`` are taken.
        """
        tower = text_part(state)
        own = state if tower is None else {f"net.{key}": value for key, value in tower.items()}
        return positions_cut(own, "net.positional_embedding", self.context)
