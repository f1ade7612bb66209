"""What every clip encoder promises; what a clip is to it (frames, stride, size) comes with it."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mmssl.models.encoder import StartConfig

Statistics = tuple[float, float, float]


class ClipEncoderConfig(StartConfig):
    """Base of the configurations in ``mmssl.models.clip``; ``kind`` selects one."""

    kind: str


class ClipEncoder(nn.Module, ABC):
    """Clips (B, frames, 3, S, S) float, normalised with ``mean`` and ``std``, to features (B, dim)."""

    config: ClipEncoderConfig
    dim: int
    frames: int
    """Frames of one clip."""
    stride: float
    """Seconds from one frame to the next."""
    image_size: int
    """S, in pixels."""
    mean: Statistics
    std: Statistics

    @abstractmethod
    def forward(self, clips: Tensor) -> Tensor: ...

    @property
    def seconds(self) -> float:
        """From the first frame of a clip to the last."""
        return (self.frames - 1) * self.stride
