"""What CPC over time and DPC share: how a sequence of blocks is cut out of a video and changed."""

from typing import Any, Protocol

from pydantic import PositiveInt, model_validator
from torch import Tensor

from mmssl.methods.predictive import PredictiveConfig
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.clip import ClipAugmentation, ClipView


class BlocksConfig(PredictiveConfig):
    encoder: Any
    steps: PositiveInt = 3
    """How many blocks ahead is predicted, half a second each by default."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.4, 1.0),
        brightness=0.5,
        contrast=0.5,
        saturation=0.5,
        hue=0.25,
        grey=0.5,
        blur=0.0,
        colour="frame",
    )
    """Of the whole sequence; what a recipe leaves out keeps these values. Each frame draws its colours, so
    those of a sequence do not give it away. None: the centre, unchanged."""

    @model_validator(mode="after")
    def _something_to_predict(self) -> "BlocksConfig":
        if self.steps >= self.encoder.blocks:
            raise ValueError(f"steps: expected fewer than encoder.blocks ({self.encoder.blocks})")
        return self


class OfBlocks(Protocol):
    """A clip encoder over N blocks."""

    blocks: int
    frames: int
    stride: float
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def block_view(encoder: OfBlocks, augmentation: ClipAugmentation | None) -> ClipView:
    """``frames`` (B, N·n, 3, S, S): N blocks of n frames, and their ``times``."""
    sampler = Blocks(encoder.blocks, encoder.frames // encoder.blocks, encoder.stride)
    return ClipView(sampler, encoder.image_size, encoder.mean, encoder.std, augmentation)


def about(frames: int, step: float) -> str:
    """What a block is and how far apart they are, for protocols."""
    return f"block of {frames} frame{'s' if frames > 1 else ''}, k steps of {step:g} s ahead"


def spans(times: Tensor, blocks: int) -> Tensor:
    """(B, N, 2) first and last time of each of N blocks, from the times (B, N·n) of their frames."""
    return times.unflatten(1, (blocks, -1))[:, :, [0, -1]]
