"""The view of evaluations: the centre of the image, without any randomness."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmssl.stream.views.base import View
from mmssl.stream.views.crops import Kernel, resize
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import normalise

_SMALL = 64
"""Views up to this many pixels show the whole image by default."""
_LONGEST = 8
"""Longest side over shortest, beyond which the ends of an image are cut off before it is resized."""


class CentreCrop(View):
    """Resize the shorter side, cut out the centre: (B, 3, size, size) float32, normalised.

    Args:
        size: in pixels.
        mean, std: the encoder's statistics, for images in 0..1.
        resize: length of the shorter side before the cut; by default 256 / 224 of the size, or the size
            itself up to 64 pixels, where images show nothing but their subject.
        kernel: bilinear, or bicubic as in the evaluations of most vision transformers.
    """

    def __init__(
        self,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        resize: int | None = None,
        kernel: Kernel = "bicubic",
        field: str = "image",
    ) -> None:
        self.fields = (field,)
        self.size = size
        self.mean, self.std = mean, std
        self.resize = max(size, resize or (size if size <= _SMALL else round(size * 256 / 224)))
        self.kernel: Kernel = kernel

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        """B images (3, H, W) uint8 → (B, 3, size, size) uint8."""
        return torch.stack([self._centre(image) for image in items])

    def _centre(self, image: Tensor) -> Tensor:
        # Enlarging the short side of an image of 2 × 60000 pixels would fill the memory.
        image = _middle(image, *(min(side, _LONGEST * min(image.shape[1:])) for side in image.shape[1:]))
        height, width = image.shape[1:]
        short = min(height, width)
        image = resize(image, self.resize * height // short, self.resize * width // short, self.kernel)
        return _middle(image, self.size, self.size)

    def finish(self, x: Tensor, draws: Draws) -> Tensor:
        """(B, 3, size, size) uint8 → float32."""
        return normalise(x, self.mean, self.std)


def _middle(image: Tensor, height: int, width: int) -> Tensor:
    """The central height × width pixels of (3, H, W); an odd rest is rounded to even as torchvision does."""
    top, left = round((image.shape[1] - height) / 2), round((image.shape[2] - width) / 2)
    return image[:, top : top + height, left : left + width]
