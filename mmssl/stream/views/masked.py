"""The view of masked image modelling: one gentle crop, colours untouched (He et al., CVPR 2022, app. A.1)."""

from collections.abc import Sequence

from torch import Tensor

from mmssl.stream.views.base import View
from mmssl.stream.views.crops import crop_resize, draw_crops, draw_flips, image_sizes
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise


class RandomCrop(View):
    """A random resized crop, bicubic, and a flip: (B, 3, size, size) float32, normalised.

    Args:
        size: in pixels.
        mean, std: the encoder's statistics, for images in 0..1.
        scale: share of the image's area that the crop covers.
        flip: probability of mirroring.
    """

    def __init__(
        self,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        scale: tuple[float, float] = (0.2, 1.0),
        flip: float = 0.5,
        field: str = "image",
    ) -> None:
        self.fields = (field,)
        self.size = size
        self.mean, self.std = mean, std
        self.scale = scale
        self.flip = flip

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        """B images (3, H, W) uint8 → (B, 3, size, size) uint8."""
        boxes = draw_crops(draws, image_sizes(items), self.scale)
        flips = draw_flips(draws, self.flip)
        return crop_resize(items, boxes[:, None], self.size, flips[:, None], "bicubic")[:, 0]

    def finish(self, x: Tensor, draws: Draws) -> Tensor:
        """(B, 3, size, size) uint8 → float32."""
        return normalise(x, self.mean, self.std)
