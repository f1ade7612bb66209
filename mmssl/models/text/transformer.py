"""CLIP's text encoder: open_clip's causal transformer, pooled at the end token, without its projection."""

from collections.abc import Mapping
from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.models.text.base import TextEncoder, TextEncoderConfig, positions_cut
from mmssl.models.text.tokenizer import load_tokenizer


class ClipTextConfig(TextEncoderConfig):
    """The transformer of CLIP (Radford et al., ICML 2021, section 2.4), by default a small one."""

    kind: Literal["clip"] = "clip"
    width: PositiveInt = 256
    heads: PositiveInt = 4
    layers: PositiveInt = 4
    mlp_ratio: PositiveFloat = 4.0
    """Width of the MLPs, relative to ``width``."""
    context: PositiveInt = 32
    """Tokens that are read, start and end among them; 77 in the paper."""


class ClipText(TextEncoder):
    """Tokens (B, context) int64 to the normalised state at the end token, (B, width).

    A token sees those before it only, so padding after the end token changes nothing.

    Raises:
        MmsslError: ``heads`` do not divide ``width``, or there is no such tokenizer.
    """

    config: ClipTextConfig

    def __init__(self, config: ClipTextConfig) -> None:
        from open_clip.transformer import TextTransformer  # slow to import, and few runs need it

        super().__init__()
        if config.width % config.heads:
            raise MmsslError(f"text.heads: expected a divisor of width {config.width}, found {config.heads}")
        self.config = config
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.dim, self.context = config.width, config.context
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
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As they are; of a longer table of positions the first ``context`` are taken."""
        return positions_cut(state, "net.positional_embedding", self.context)
