"""Blocks of a clip as feature maps, summed up place by place: DPC's f and g (Han et al., ICCVW 2019)."""

from typing import Literal

import torch
from pydantic import PositiveInt, field_validator
from torch import Tensor, nn
from torch.nn.functional import relu

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.clip.r2d3d import R2D3D
from mmssl.models.clip.video_net import VideoNet, VideoNetConfig


class DenseRecurrentConfig(ClipEncoderConfig):
    """A 2D3D-ResNet for blocks of frames, and a causal ConvGRU over their maps."""

    kind: Literal["dense_recurrent"] = "dense_recurrent"
    blocks: PositiveInt = 8
    """N non-overlapping blocks follow each other without a gap."""
    block: VideoNetConfig = VideoNetConfig(name="r2d3d", frames=5, stride=0.1, image_size=128)
    """f; its own frames and stride make a block. BatchNorm keeps running statistics for probes afterwards."""

    @field_validator("block")
    @classmethod
    def _has_maps_before_relu(cls, block: VideoNetConfig) -> VideoNetConfig:
        if block.name != "r2d3d":
            raise ValueError("name: expected r2d3d, whose maps are known before their last ReLU")
        return block


class DenseRecurrent(ClipEncoder):
    """(B, frames, 3, S, S) to the last context (B, dim), averaged over its places."""

    config: DenseRecurrentConfig

    def __init__(self, config: DenseRecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.f = VideoNet(config.block)
        self.g = ConvGRUCell(self.f.dim)
        self.dim = self.f.dim
        self.blocks = config.blocks
        self.frames, self.stride = config.blocks * self.f.frames, self.f.stride
        self.image_size, self.mean, self.std = self.f.image_size, self.f.mean, self.f.std

    @property
    def step(self) -> float:
        """Seconds from one block to the next."""
        return self.f.frames * self.stride

    def encode(self, clips: Tensor) -> Tensor:
        """z (B, N, dim, h, w) of the N blocks, averaged over a block's time, before the ReLU."""
        blocks = clips.unflatten(1, (-1, self.f.frames)).flatten(0, 1)
        assert isinstance(self.f.net, R2D3D)
        maps = self.f.net.before_relu(blocks.transpose(1, 2)).mean(dim=2)
        return maps.unflatten(0, (len(clips), -1))

    def context(self, z: Tensor) -> Tensor:
        """c (B, dim, h, w) after the blocks z (B, n, dim, h, w), whose ReLU is taken here; it starts at 0."""
        c = torch.zeros_like(z[:, 0])
        for block in relu(z).unbind(1):
            c = self.g(block, c)
        return c

    def forward(self, clips: Tensor) -> Tensor:
        return self.context(self.encode(clips)).mean(dim=(2, 3))


class ConvGRUCell(nn.Module):
    """A GRU of 1×1 convolutions (Ballas et al., ICLR 2016): one state a place, and no place sees another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.candidate = nn.Conv2d(2 * channels, channels, 1)
        for conv in (self.gates, self.candidate):
            for weight in conv.weight.data.split(channels):
                nn.init.orthogonal_(weight)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Input and state (B, channels, h, w) to the next state."""
        update, reset = self.gates(torch.cat([x, h], dim=1)).sigmoid().chunk(2, dim=1)
        candidate = self.candidate(torch.cat([x, reset * h], dim=1)).tanh()
        return torch.lerp(h, candidate, update)
