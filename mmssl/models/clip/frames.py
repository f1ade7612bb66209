"""A clip as its frames, each encoded by itself; also how an image encoder is asked about clips."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from mmssl.models.clip.base import ClipEncoder, ClipEncoderConfig
from mmssl.models.clip.frame_attention import FrameAttention
from mmssl.models.clip.frame_net import FrameNet, FrameNetConfig
from mmssl.models.encoder import Encoder


class FramesConfig(ClipEncoderConfig):
    """Frames one by one through a 2D network, then averaged, put side by side or attended to."""

    kind: Literal["frames"] = "frames"
    net: FrameNetConfig = FrameNetConfig()
    frames: PositiveInt = 1
    stride: PositiveFloat = 0.1
    """Seconds from one frame to the next."""
    fuse: Literal["mean", "concat", "attention"] = "mean"
    """``mean`` forgets the order of the frames, ``concat`` keeps it; ``attention`` is the mean of frames that
    have looked at each other, and knows their order."""

    @property
    def sees(self) -> str:
        return self.net.encoder.sees


class Frames(ClipEncoder):
    """(B, frames, 3, S, S) to (B, dim); dim is the network's, times the frames with ``concat``."""

    config: FramesConfig

    def __init__(self, config: FramesConfig) -> None:
        super().__init__()
        self.config = config
        self.net = FrameNet(config.net)
        attends = config.fuse == "attention"
        self.attend = FrameAttention(config.frames, self.net.dim) if attends else nn.Identity()
        self.frames, self.stride = config.frames, config.stride
        self.dim = self.net.dim * (config.frames if config.fuse == "concat" else 1)
        image = config.net.encoder
        self.image_size, self.mean, self.std = image.image_size, image.mean, image.std

    @property
    def frame_encoder(self) -> Encoder:
        return self.net.encoder

    def tokens(self, clips: Tensor) -> Tensor:
        """(B, frames, d): the vector of every frame."""
        return self.attend(self.net(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]))

    def forward(self, clips: Tensor) -> Tensor:
        z = self.tokens(clips)
        return z.flatten(1) if self.config.fuse == "concat" else z.mean(dim=1)


def averaging(encoder: Encoder, frames: int, stride: float) -> Frames:
    """The clip encoder that averages what an image encoder says about each frame; shares its weights."""
    config = FramesConfig(net=FrameNetConfig(encoder=encoder.config), frames=frames, stride=stride)
    clip_encoder = Frames(
        config.model_copy(
            update={
                "net": config.net.model_copy(
                    update={"encoder": encoder.config.model_copy(update={"weights": None})}
                )
            }
        )
    )
    clip_encoder.net.encoder = encoder
    return clip_encoder
