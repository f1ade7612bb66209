"""What every clip encoder promises; what a clip is to it (frames, stride, size) comes with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from mmssl.models.encoder import Encoder, StartConfig

Statistics = tuple[float, ...]


class ClipEncoderConfig(StartConfig):
    """Base of the configurations in ``mmssl.models.clip``; ``kind`` selects one."""

    kind: str


class ClipEncoder(nn.Module, ABC):
    """Clips (B, frames, C, S, S) float, normalised with ``mean`` and ``std``, to features (B, dim).

    Frames are colours (C = 3), unless ``config.sees`` says otherwise.
    """

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

    def tokens(self, clips: Tensor) -> Tensor:
        """(B, n, d): what an attentive probe looks at, in the order of time; here the one pooled feature."""
        return self(clips)[:, None]

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict from a file under this module's names; here they are the same."""
        return dict(state)

    @property
    def frame_encoder(self) -> Encoder | None:
        """The image encoder that sees its frames one by one; None where they are seen together."""
        return None

    @property
    def seconds(self) -> float:
        """From the first frame of a clip to the last."""
        return (self.frames - 1) * self.stride
