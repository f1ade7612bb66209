"""From a feature map back to a picture: the light decoder of methods that predict pixels."""

import math

from torch import Tensor, nn
from torch.nn.functional import interpolate

_NARROWEST = 32
"""Channels of the finest layers."""


class PixelDecoder(nn.Module):
    """(B, dim, grid, grid) float to (B, channels, size, size), in as many doublings as it takes.

    A doubling is nearest-neighbour upsampling, a 3×3 convolution, BatchNorm and ReLU (resize-convolution:
    Odena et al., "Deconvolution and Checkerboard Artifacts", 2016); each has half the channels of the one
    before. A size that is no power of two times the grid is reached by a bilinear step at the end. Nothing
    skips the feature map: whatever is painted went through it.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, dim: int, grid: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        self.size = size
        layers: list[nn.Module] = [*_convolution(dim, width, 1)]
        for _ in range(max(0, math.ceil(math.log2(size / grid)))):
            narrower = max(width // 2, min(width, _NARROWEST))
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(width, narrower, 3)]
            width = narrower
        layers.append(nn.Conv2d(width, channels, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        x: Tensor = self.layers(features)
        if x.shape[2:] != (self.size, self.size):
            x = interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return x


def _convolution(into: int, out: int, side: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(into, out, side, padding=side // 2, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )
