"""Frames that look at each other before they are averaged."""

import math

import torch
from open_clip.transformer import Transformer
from torch import Tensor, nn


class FrameAttention(nn.Module):
    """What each frame says, and beside it what it finds in the others: (B, frames, dim) to the same.

    One transformer block over the frames and their positions, added to its input: the sequential type of
    Luo et al., "CLIP4Clip" (2021), section 3.3, which then takes the mean.
    """

    def __init__(self, frames: int, dim: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(frames, dim).normal_(std=0.01))
        self.block = Transformer(dim, layers=1, heads=math.gcd(8, dim))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.block(z + self.positions)

    def no_weight_decay(self) -> set[str]:
        """Positions are offsets, not weights."""
        return {"positions"}
