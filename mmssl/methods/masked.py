"""What masked autoencoders share: the decoder that paints hidden patches, of images and of clips."""

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmssl.errors import MmsslError
from mmssl.methods.base import Method
from mmssl.models.patches import last_tokens


class MaskedAutoencoder(Method):
    """A light transformer over the encoder's tokens and a learned one in each hidden place (MAE, section 3).

    ``decoder_positions`` (N, width) tells places apart; ``prefix`` tokens (class, registers) come first.
    """

    decoder_positions: Tensor
    prefix: int = 0

    def add_decoder(self, latent: int, positions: Tensor, depth: int, heads: int, pixels: int) -> None:
        """Layers from tokens of width ``latent`` to ``pixels`` numbers a patch, as wide as ``positions``."""
        width = positions.shape[1]
        self.decoder_embed = nn.Linear(latent, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_positions", positions)
        norm_layer: Any = partial(nn.LayerNorm, eps=1e-6)
        blocks = [Block(width, heads, qkv_bias=True, norm_layer=norm_layer) for _ in range(depth)]
        self.decoder = nn.Sequential(*blocks)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pixels = nn.Linear(width, pixels)
        nn.init.normal_(self.mask_token, std=0.02)

    def start(self, *encoder: nn.Module) -> None:
        """Xavier uniform for all linear layers of the decoder and of these modules (MAE, appendix A.1)."""
        for part in (self.decoder_embed, self.decoder, self.decoder_pixels, *encoder):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def decode(self, latent: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Tokens (B, prefix + n, width) at ``visible`` (B, n) to pixels (B, m, ·) at ``hidden`` (B, m).

        To attention only positions tell order, so the mask tokens simply stand behind the visible ones. Of
        the last block's tokens only the hidden ones are read, so only they are computed.
        """
        x = self.decoder_embed(latent)
        masked = self.mask_token.to(x.dtype).expand(len(x), hidden.shape[1], -1)
        patches = torch.cat([x[:, self.prefix :], masked], dim=1)
        patches = patches + self.decoder_positions[torch.cat([visible, hidden], dim=1)]
        x = torch.cat([x[:, : self.prefix], patches], dim=1)
        *blocks, last = self.decoder
        for block in blocks:
            x = block(x)
        return self.decoder_pixels(self.decoder_norm(last_tokens(last, x, hidden.shape[1])))


def check_decoder(width: int, heads: int, multiple: int) -> None:
    """Raises MmsslError unless ``width`` divides by ``heads`` and, for the positions, by ``multiple``."""
    if width % multiple or width % heads:
        raise MmsslError(
            f"decoder_width: expected a multiple of {multiple} and of decoder_heads ({heads}), found {width}"
        )


def rows_to_compare(patches: Tensor, hidden: Tensor, painted: Tensor) -> dict[str, Tensor]:
    """(B, N, d) each: the patches, those the encoder saw (the rest grey), and what was painted in."""
    where = hidden[:, :, None].expand(-1, -1, patches.shape[2])
    return {
        "original": patches,
        "masked": patches.scatter(1, where, torch.zeros_like(painted)),
        "reconstruction": patches.scatter(1, where, painted),
    }
