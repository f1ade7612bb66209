"""Convolutional video networks: torchvision's, without their classifiers, and the 2D3D-ResNet of DPC."""

from collections.abc import Mapping
from math import gcd
from typing import Any, Literal

import torch
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torchvision.models import video

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.clip.r2d3d import R2D3D, Stem
from mmssl.models.layout import channels_last
from mmssl.sights import SIGHTS

_R2D3D_ONLY = ("layers", "channels", "stem")
_S3D_SMALLEST = (5, 17)
"""Frames and pixels below which nothing is left for S3D's last pooling."""


class VideoNetConfig(ClipEncoderConfig):
    """A network that sees a clip as a volume; ``mean`` and ``std`` are what torchvision's weights expect."""

    kind: Literal["video_net"] = "video_net"
    name: Literal["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "r2d3d"] = "r3d_18"
    """R3D, MC3 and R(2+1)D: Tran et al., CVPR 2018; S3D: Xie et al., ECCV 2018; r2d3d: DPC's network."""
    frames: PositiveInt = 16
    stride: PositiveFloat = 1 / 15
    """Seconds from one frame to the next."""
    image_size: PositiveInt = 112
    norm: Literal["batch", "group"] = "batch"
    """``group`` (Wu and He, ECCV 2018) sees one clip only, so no statistics leak between those of a batch."""
    layers: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    """Residual blocks of the four stages; of ``r2d3d`` only, like ``channels`` and ``stem``."""
    channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 128, 256, 256)
    """Of the four stages; the last has 256 in DPC, where a plain ResNet has 512."""
    stem: Stem = "default"
    """As of image ResNets: 7×7 with pooling, or 3×3 with a first stage of 1, 2 or 4 pixels a cell."""
    sees: Literal["rgb", "flow"] = "rgb"
    """Frames, or fields of optical flow: u and v are then the two channels of a frame."""
    mean: tuple[float, ...] = (0.43216, 0.394666, 0.37645)
    """One a channel; of a flow by default 0."""
    std: tuple[PositiveFloat, ...] = (0.22803, 0.22145, 0.216989)
    """One a channel; of a flow by default that of ``mmssl.sights``."""

    @model_validator(mode="before")
    @classmethod
    def _seen(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("sees") != "flow":
            return data
        flow = SIGHTS["flow"]
        return {"mean": 2 * flow.mean, "std": 2 * flow.std, **data}

    @model_validator(mode="after")
    def _fits(self) -> "VideoNetConfig":
        fields = type(self).model_fields
        changed = [name for name in _R2D3D_ONLY if getattr(self, name) != fields[name].default]
        if changed and self.name != "r2d3d":
            raise ValueError(f"{', '.join(changed)}: expected with name: r2d3d only, found {self.name}")
        frames, pixels = _S3D_SMALLEST
        if self.name == "s3d" and (self.frames < frames or self.image_size < pixels):
            raise ValueError(f"s3d needs frames >= {frames} and image_size >= {pixels}")
        channels = 2 if self.sees == "flow" else 3
        for name in ("mean", "std"):
            if len(getattr(self, name)) != channels:
                found = len(getattr(self, name))
                raise ValueError(f"{name}: expected {channels} numbers to see {self.sees}, found {found}")
        return self


class VideoNet(ClipEncoder):
    """(B, frames, C, S, S) to (B, dim): the mean of the last feature map over time and space."""

    config: VideoNetConfig

    def __init__(self, config: VideoNetConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.stride = config.frames, config.stride
        self.image_size, self.mean, self.std = config.image_size, config.mean, config.std
        self.net, self.dim = _network(config)
        if config.norm == "group":
            _group_norms(self.net)
        channels_last(self.net)

    def feature_map(self, clips: Tensor) -> Tensor:
        """(B, T, C, S, S) to (B, dim, t, h, w), after the last ReLU; T may differ from ``frames``."""
        volumes = clips.transpose(1, 2)
        if isinstance(self.net, R2D3D):
            return self.net(volumes)
        volumes = volumes.contiguous(memory_format=torch.channels_last_3d)
        if isinstance(self.net, video.S3D):
            return self.net.features(volumes)
        for part in ("stem", "layer1", "layer2", "layer3", "layer4"):
            volumes = getattr(self.net, part)(volumes)
        return volumes

    def tokens(self, clips: Tensor) -> Tensor:
        """(B, t·h·w, dim): the cells of the feature map, time first."""
        return self.feature_map(clips).flatten(2).transpose(1, 2)

    def forward(self, clips: Tensor) -> Tensor:
        return self.feature_map(clips).mean(dim=(2, 3, 4))

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Also takes torchvision's state dicts, whose classifier is left out."""
        if any(key.startswith("net.") for key in state):
            return dict(state)
        return {f"net.{key}": x for key, x in state.items() if not key.startswith(("fc.", "classifier."))}


def _network(config: VideoNetConfig) -> tuple[nn.Module, int]:
    if config.name == "r2d3d":
        return R2D3D(config.layers, config.channels, config.stem, len(config.mean)), config.channels[-1]
    net: Any = getattr(video, config.name)(weights=None)
    if config.sees == "flow":
        first = next(module for module in net.modules() if isinstance(module, nn.Conv3d))
        first.in_channels, first.weight = 2, nn.Parameter(first.weight.detach()[:, :2].clone())
    if config.name == "s3d":
        # torchvision's momentum, 0.001, is for weeks of training: a short one would never leave the start
        for module in net.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 0.1
        net.classifier = nn.Identity()
        return net, 1024
    net.fc = nn.Identity()
    return net, 512


def _group_norms(module: nn.Module) -> None:
    """Replace every BatchNorm by a GroupNorm: up to 32 groups, of at least four channels."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            channels = child.num_features
            setattr(module, name, nn.GroupNorm(gcd(channels, min(32, max(1, channels // 4))), channels))
        else:
            _group_norms(child)
