"""How one encoder is shown a sample: which sight of it, of what size, at what moment."""

from dataclasses import dataclass
from typing import Any

from mmssl.sights import SIGHTS


@dataclass(frozen=True)
class Shown:
    """What a view of several sights needs to know of each of them."""

    sees: str
    """A name of ``mmssl.sights``."""
    field: str
    """Of the sample; of a video the frames are seen as images."""
    size: int
    """Of the square that is shown, in pixels."""
    channels: int
    """Of one frame; of a flow two for each of the fields that are stacked."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frames: int | None = None
    """T of a clip (T, channels, size, size); None for a single picture (channels, size, size)."""
    stride: float = 0.0
    """Seconds from one frame of a clip to the next."""
    after: float = 0.0
    """Seconds behind the moment that all sights of a video share."""
    optional: bool = False
    """Whether samples may lack it; they are shown zeros, and marked as lacking it."""

    @property
    def modality(self) -> str:
        return SIGHTS[self.sees].modality

    @classmethod
    def to(
        cls,
        encoder: Any,
        *,
        video: bool,
        field: str | None = None,
        after: float = 0.0,
        optional: bool = False,
    ) -> "Shown":
        """What an image or clip encoder is shown.

        Args:
            video: whether samples are videos, whose frames stand for images.
            field: by default that of ``field_of``.
        """
        sees = getattr(encoder.config, "sees", "rgb")
        return cls(
            sees=sees,
            field=field or field_of(sees, video=video),
            size=encoder.image_size,
            channels=len(encoder.mean),
            mean=encoder.mean,
            std=encoder.std,
            frames=getattr(encoder, "frames", None),
            stride=getattr(encoder, "stride", 0.0),
            after=after,
            optional=optional,
        )


def field_of(sees: str, *, video: bool) -> str:
    """The field that a sight is made of: its modality's name, or ``video`` for the images of videos."""
    modality = SIGHTS[sees].modality
    return "video" if video and modality == "image" else modality
