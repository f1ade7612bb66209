"""Two encoders with one space between them, and whether another library's model says the same."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from mmssl.errors import MmsslError
from mmssl.models.encoder import Encoder
from mmssl.models.text.base import TextEncoder

TEXTS = ("a red circle", "Two dogs play in the snow.", "")
"""What both models are asked about, beside random images."""
TOLERANCE = 1e-5
"""Of every coordinate of a unit vector."""


@dataclass(frozen=True)
class Pair:
    """A CLIP in pieces: towers, linear heads without bias into one space, and the scale of its logits."""

    image: Encoder
    text: TextEncoder
    image_head: Tensor
    """(d, image.dim)"""
    text_head: Tensor
    """(d, text.dim)"""
    logit_scale: float
    """Logarithm of what cosines are multiplied by."""
    logit_bias: float | None = None
    """SigLIP's, which is then added."""
    provenance: dict[str, Any] = field(default_factory=dict)

    def image_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) to unit vectors (B, d)."""
        return normalize(linear(self.image(images), self.image_head), dim=-1)

    def text_features(self, tokens: Tensor) -> Tensor:
        """(B, context) to unit vectors (B, d)."""
        return normalize(linear(self.text(tokens), self.text_head), dim=-1)


@torch.inference_mode()
def refuse_difference(
    pair: Pair, images: Callable[[Tensor], Tensor], texts: Callable[[Tensor], Tensor], library: str
) -> None:
    """Ask both models the same before anything is written: a card that claims to be equal has to be.

    Raises:
        MmsslError: the library's model has other features, of images or of texts.
    """
    pair.image.eval(), pair.text.eval()
    size = pair.image.image_size
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokens = pair.text.tokenizer(TEXTS, pair.text.context)
    for what, ours, theirs in (
        (f"image tower {pair.image.config.name}", pair.image_features(pixels), images(pixels)),
        (f"text tower {pair.text.config.kind}", pair.text_features(tokens), texts(tokens)),
    ):
        gap = float((ours - normalize(theirs, dim=-1)).abs().max())
        if not gap <= TOLERANCE:
            raise MmsslError(
                f"export: {library} has no network that computes what the {what} does (features differ by "
                f"{gap:.1g}); expected one of its own, such as a plain ViT"
            )
