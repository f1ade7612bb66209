"""Single frames to vectors: a timm backbone, and what is done with its last feature map."""

from typing import Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from mmssl.config import Config
from mmssl.models.encoder import EncoderConfig, build_encoder


class FrameNetConfig(Config):
    """A backbone, and how its feature map becomes a vector."""

    encoder: EncoderConfig = EncoderConfig()
    pool: Literal["average", "spatial_softmax", "flatten"] = "average"
    """``average``: the backbone's own pooling, blind to where things are; ``spatial_softmax``: where each
    channel is active (Finn et al., ICRA 2016); ``flatten``: every cell of the map."""
    convolutions: tuple[PositiveInt, ...] = ()
    """Channels of 3×3 convolutions with BatchNorm and ReLU between the feature map and the pooling."""
    hidden: PositiveInt | None = None
    """Width of a hidden layer with ReLU behind the pooling; needs ``width``."""
    width: PositiveInt | None = None
    """Of the vector, by a linear layer at the end; by default whatever the pooling gives."""

    @model_validator(mode="after")
    def _fits(self) -> "FrameNetConfig":
        if self.convolutions and self.pool == "average":
            raise ValueError("convolutions: expected none with pool: average, which is the backbone's own")
        if self.hidden is not None and self.width is None:
            raise ValueError("width: expected a number where there is a hidden layer")
        return self


class FrameNet(nn.Module):
    """Frames (N, C, S, S) float32 to vectors (N, dim)."""

    def __init__(self, config: FrameNetConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config.encoder)
        if config.pool == "average":
            self.pool: nn.Module = nn.Identity()
            pooled = self.encoder.dim
        else:
            size = config.encoder.image_size
            with torch.no_grad():
                training = self.encoder.training
                shape = (
                    self.encoder.eval()
                    .feature_map(torch.zeros(1, len(config.encoder.mean), size, size))
                    .shape
                )
                self.encoder.train(training)
            layers: list[nn.Module] = []
            channels = shape[1]
            for out in config.convolutions:
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            if config.pool == "spatial_softmax":
                layers.append(SpatialSoftmax(channels))
                pooled = 2 * channels
            else:
                layers.append(nn.Flatten())
                pooled = channels * shape[2] * shape[3]
            self.pool = nn.Sequential(*layers)
        head: list[nn.Module] = []
        if config.hidden is not None:
            head += [nn.Linear(pooled, config.hidden), nn.ReLU()]
        if config.width is not None:
            head.append(nn.Linear(config.hidden or pooled, config.width))
        self.head = nn.Sequential(*head)
        self.dim = config.width or pooled

    def forward(self, frames: Tensor) -> Tensor:
        # channels_last is what convolutions like; a folded batch of clips comes in the default layout
        frames = frames.contiguous(memory_format=torch.channels_last)
        if self.config.pool == "average":
            return self.head(self.encoder(frames))
        return self.head(self.pool(self.encoder.feature_map(frames)))


class SpatialSoftmax(nn.Module):
    """Where each channel is active: (N, C, h, w) to (N, 2·C), expected x and y in -1..1.

    Each channel's map, divided by its own learned temperature, becomes a distribution over the cells
    (Levine et al., JMLR 2016, section 5.2; Finn et al., ICRA 2016).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        _, _, h, w = maps.shape
        inverse = (-self.log_temperature).exp()[:, None]
        with torch.autocast(maps.device.type, enabled=False):
            weight = (maps.float().flatten(2) * inverse).softmax(dim=2).unflatten(2, (h, w))
            x = torch.linspace(-1, 1, w, device=maps.device)
            y = torch.linspace(-1, 1, h, device=maps.device)
            return torch.cat([weight.sum(2) @ x, weight.sum(3) @ y], dim=1)
