"""2D3D-ResNet: a ResNet that looks at single frames first and at time later (DPC: Han et al., ICCVW 2019)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Stem = Literal["default", "small", "small_stride2", "small_stride4"]

TEMPORAL_STAGES = 2
"""How many of the last stages are 3D: res4 and res5 of the paper's table 1."""


class BasicBlock(nn.Module):
    """Two 3×3 or 3×3×3 convolutions and a shortcut (He et al., CVPR 2016); ``stride`` is every axis's."""

    def __init__(self, channels: int, out: int, stride: int, temporal: bool) -> None:
        super().__init__()
        conv = nn.Conv3d if temporal else nn.Conv2d
        norm = nn.BatchNorm3d if temporal else nn.BatchNorm2d
        self.conv1 = conv(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = norm(out)
        self.conv2 = conv(out, out, 3, padding=1, bias=False)
        self.bn2 = norm(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(conv(channels, out, 1, stride, bias=False), norm(out))

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.before_relu(x))

    def before_relu(self, x: Tensor) -> Tensor:
        """The sum of both paths."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y)) + self.downsample(x)


class R2D3D(nn.Module):
    """Clips (B, C, T, S, S) to maps (B, d, t, h, w): space shrinks 32-fold, time 4-fold, both rounded up.

    The stem and the first stages are 2D and see every frame by itself; frames stay folded into the batch
    there, which in channels-last order costs no copy. Each of the last ``TEMPORAL_STAGES`` stages halves time
    as well as space.
    """

    def __init__(self, layers: Sequence[int], channels: Sequence[int], stem: Stem, colours: int = 3) -> None:
        super().__init__()
        width = channels[0]
        if stem == "default":
            self.conv1 = nn.Conv2d(colours, width, 7, 2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(colours, width, 3, 1 if stem == "small" else 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        pooled = stem in ("default", "small_stride4")
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, padding=1) if pooled else nn.Identity()
        stages = []
        for number, (blocks, out) in enumerate(zip(layers, channels, strict=True)):
            temporal = number >= len(layers) - TEMPORAL_STAGES
            stage = [BasicBlock(width, out, 1 if number == 0 else 2, temporal)]
            stage += [BasicBlock(out, out, 1, temporal) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*stage))
            width = out
        self.spatial = nn.Sequential(*stages[:-TEMPORAL_STAGES])
        self.temporal = nn.Sequential(*stages[-TEMPORAL_STAGES:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def frame_maps(self, frames: Tensor) -> Tensor:
        """The 2D part: (N, C, S, S) to (N, channels, h, w)."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        return self.spatial(self.maxpool(self.relu(self.bn1(self.conv1(frames)))))

    def forward(self, clips: Tensor) -> Tensor:
        return self.relu(self.before_relu(clips))

    def before_relu(self, clips: Tensor) -> Tensor:
        """The same maps before the last ReLU: what DPC predicts."""
        frames = clips.transpose(1, 2)
        maps = self.frame_maps(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).transpose(1, 2)
        *blocks, last = [part for part in self.temporal.modules() if isinstance(part, BasicBlock)]
        for block in blocks:
            maps = block(maps)
        return last.before_relu(maps)
