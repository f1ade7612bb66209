"""A plain vision transformer over space-time tubelets, as VideoMAE trains it (Tong et al., NeurIPS 2022)."""

from functools import partial
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import linear

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.patches import tubelets
from mmssl.models.positions import sincos_space_time


class VideoViTConfig(ClipEncoderConfig):
    """The defaults are ViT-B as in the paper: 16 frames of 224², 8·14·14 tubelets of 2·16² pixels."""

    kind: Literal["video_vit"] = "video_vit"
    frames: PositiveInt = 16
    stride: PositiveFloat = 4 / 30
    """Seconds from one frame to the next: every fourth of 30 a second, as on Kinetics."""
    image_size: PositiveInt = 224
    tubelet: PositiveInt = 2
    """Frames of one token."""
    patch: PositiveInt = 16
    """Side of one token, in pixels."""
    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _fits(self) -> "VideoViTConfig":
        if self.frames % self.tubelet:
            raise ValueError(f"frames: expected a multiple of tubelet ({self.tubelet}), found {self.frames}")
        if self.image_size % self.patch:
            raise ValueError(
                f"image_size: expected a multiple of patch ({self.patch}), found {self.image_size}"
            )
        if self.width % self.heads or self.width % 2 or self.width < 6:
            raise ValueError(
                f"width: expected an even multiple of heads ({self.heads}), at least 6, found {self.width}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w), tokens along each axis."""
        side = self.image_size // self.patch
        return self.frames // self.tubelet, side, side


class VideoViT(ClipEncoder):
    """(B, frames, 3, S, S) to (B, width): the mean of all tokens, normalised.

    Positions are fixed sines and cosines of time, row and column. (The authors' are of the token's number,
    which makes the last column a neighbour of the next row's first.) The norm stands behind the mean, as in
    their fine-tuning; in pre-training the same norm is on the tokens.
    """

    config: VideoViTConfig
    positions: Tensor

    def __init__(self, config: VideoViTConfig) -> None:
        super().__init__()
        self.config = config
        self.frames, self.stride, self.dim = config.frames, config.stride, config.width
        self.image_size, self.mean, self.std = config.image_size, config.mean, config.std
        size = (config.tubelet, config.patch, config.patch)
        self.embed = nn.Conv3d(3, config.width, size, stride=size)
        self.register_buffer("positions", sincos_space_time(config.grid, config.width), persistent=False)
        norm_layer: Any = partial(nn.LayerNorm, eps=1e-6)
        blocks = [
            Block(config.width, config.heads, qkv_bias=True, norm_layer=norm_layer)
            for _ in range(config.depth)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embed.weight.data.flatten(1))

    def rows(self, clips: Tensor) -> Tensor:
        """(B, frames, 3, S, S) to tubelets (B, N, 3·s·p²)."""
        return tubelets(clips, self.config.tubelet, self.config.patch)

    def encode(self, rows: Tensor, where: Tensor | None = None) -> Tensor:
        """Tubelets (B, n, 3·s·p²) at ``where`` (B, n), or all, to tokens (B, n, width) before the norm.

        The convolution's stride is its size, so it is a linear map of each tubelet: hidden ones cost nothing.
        """
        positions = self.positions if where is None else self.positions[where]
        return self.blocks(linear(rows, self.embed.weight.flatten(1), self.embed.bias) + positions)

    def tokens(self, clips: Tensor) -> Tensor:
        """(B, t·h·w, width), normalised: time first, then rows, then columns."""
        return self.norm(self.encode(self.rows(clips)))

    def feature_map(self, clips: Tensor) -> Tensor:
        """(B, frames, 3, S, S) to the tokens in their grid: (B, width, t, h, w)."""
        return self.tokens(clips).transpose(1, 2).unflatten(2, self.config.grid)

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(self.encode(self.rows(clips)).mean(dim=1))
