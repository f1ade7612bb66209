"""Blocks of a clip, each encoded by itself, summed up by a GRU: CPC's g_enc and g_ar (Oord et al., 2018)."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.clip.frames import FramesConfig
from mmssl.models.clip.video_net import VideoNetConfig
from mmssl.models.clip.video_vit import VideoViTConfig
from mmssl.models.encoder import Encoder


class RecurrentConfig(ClipEncoderConfig):
    """A network for blocks of frames, and a causal GRU over them."""

    kind: Literal["recurrent"] = "recurrent"
    blocks: PositiveInt = 8
    """N non-overlapping blocks follow each other without a gap."""
    block: Annotated[FramesConfig | VideoNetConfig | VideoViTConfig, Field(discriminator="kind")] = (
        FramesConfig()
    )
    """g_enc; its own frames and stride make a block."""
    context: PositiveInt = 256
    """Width of the GRU, whose state starts at zero."""

    @property
    def sees(self) -> str:
        return getattr(self.block, "sees", "rgb")


class Recurrent(ClipEncoder):
    """(B, frames, 3, S, S) to the last context c_N (B, context): a summary of the whole clip."""

    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig, block: ClipEncoder) -> None:
        super().__init__()
        self.config = config
        self.g_enc = block
        self.g_ar = nn.GRU(block.dim, config.context, batch_first=True)
        self.dim = config.context
        self.blocks = config.blocks
        self.frames, self.stride = config.blocks * block.frames, block.stride
        self.image_size, self.mean, self.std = block.image_size, block.mean, block.std

    @property
    def frame_encoder(self) -> Encoder | None:
        return self.g_enc.frame_encoder

    @property
    def step(self) -> float:
        """Seconds from one block to the next."""
        return self.g_enc.frames * self.stride

    def encode(self, clips: Tensor) -> Tensor:
        """z (B, N, d) of the N blocks; no block sees another."""
        blocks = clips.unflatten(1, (-1, self.g_enc.frames))
        return self.g_enc(blocks.flatten(0, 1)).unflatten(0, blocks.shape[:2])

    def contexts(self, z: Tensor) -> Tensor:
        """c (B, N, context); c_t has seen z_1 … z_t and nothing later."""
        return self.g_ar(z)[0]

    def tokens(self, clips: Tensor) -> Tensor:
        """(B, N, context): all contexts."""
        return self.contexts(self.encode(clips))

    def forward(self, clips: Tensor) -> Tensor:
        return self.tokens(clips)[:, -1]
