"""Several random views of one image: crop, flip, colour jitter, grey, blur, solarisation, in this order.

SimCLR (Chen et al., ICML 2020, appendix A), MoCo v1 (He et al., CVPR 2020), MoCo v2 (Chen et al., 2020) and
MoCo v3 (Chen et al., ICCV 2021) differ only in the numbers; the classmethods below give them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.stream.views.base import View
from mmssl.stream.views.crops import crop_resize, draw_crops, draw_flips, image_sizes
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.photometric import (
    Colour,
    colour_jitter,
    colour_normalise,
    gaussian_blur,
    solarise,
)

Probability = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]
_IN_CACHE = 1 << 20
"""Floats that the photometric part works on at once on a CPU, so that its passes stay in the cache."""


class ContrastiveAugmentation(Config):
    """How one view is made. The defaults are SimCLR's for ImageNet (strength 1)."""

    scale: tuple[PositiveFloat, PositiveFloat] = (0.08, 1.0)
    """Share of the image's area that a crop covers."""
    ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Width / height of a crop."""
    flip: Probability = 0.5
    jitter: Probability = 0.8
    """Probability that the four changes of colour below are made, in random order."""
    brightness: Spread = 0.8
    """The factor is uniform in max(0, 1 - b) .. 1 + b; likewise contrast and saturation."""
    contrast: Spread = 0.8
    saturation: Spread = 0.8
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    """The turn is uniform in -h .. h of the colour circle."""
    grey: Probability = 0.2
    """Probability of turning to grey, after the jitter."""
    blur: Probability = 0.5
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Pixels."""
    blur_kernel: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Width of the blur's kernel as a share of the view's size."""
    solarise: Probability = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "ContrastiveAugmentation":
        for name in ("scale", "ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected (low, high) with low <= high")
        if self.scale[1] > 1:
            raise ValueError("scale: expected shares of the image, at most 1")
        return self

    @classmethod
    def simclr(cls, strength: float = 1.0) -> "ContrastiveAugmentation":
        """SimCLR on ImageNet; ``strength`` scales the four colour ranges (the paper's s)."""
        most = 0.8 * strength
        return cls(brightness=most, contrast=most, saturation=most, hue=0.2 * strength)

    @classmethod
    def small_images(cls, strength: float = 0.5) -> "ContrastiveAugmentation":
        """SimCLR on CIFAR and other images of a few dozen pixels: gentler crops and colours, no blur."""
        most = 0.8 * strength
        return cls(
            scale=(0.2, 1.0), brightness=most, contrast=most, saturation=most, hue=0.2 * strength, blur=0.0
        )

    @classmethod
    def moco_v1(cls) -> "ContrastiveAugmentation":
        """The paper turns to grey before the jitter: only the luma that a turn of hue moves differs."""
        return cls(
            scale=(0.2, 1.0), jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, blur=0.0
        )

    @classmethod
    def moco_v2(cls) -> "ContrastiveAugmentation":
        """MoCo v1's crops with SimCLR's blur and a gentler jitter."""
        return cls(scale=(0.2, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

    @classmethod
    def moco_v3(cls) -> "tuple[ContrastiveAugmentation, ContrastiveAugmentation]":
        """The asymmetric pair of BYOL: one view is always blurred, the other sometimes solarised."""
        first = cls(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, blur=1.0)
        return first, first.model_copy(update={"blur": 0.1, "solarise": 0.2})


class ContrastiveViews(View):
    """V views of one image: uint8 images of any sizes → (B, V, 3, size, size) float32, normalised.

    Args:
        size: of the views, in pixels.
        augmentations: one for each view.
        mean, std: the encoder's statistics, for images in 0..1.

    Raises:
        MmsslError: no augmentation, or a size below 1.
    """

    def __init__(
        self,
        size: int,
        augmentations: Sequence[ContrastiveAugmentation],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        field: str = "image",
    ) -> None:
        if size < 1 or not augmentations:
            raise MmsslError(
                f"contrastive views: size {size} and {len(augmentations)} augmentations; "
                "expected at least 1 of each"
            )
        self.fields = (field,)
        self.size = size
        self.augmentations = tuple(augmentations)
        self.mean, self.std = mean, std

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        """B images (3, H, W) uint8 → (B, V, 3, size, size) uint8: crop, resize, flip."""
        sizes = image_sizes(items)
        streams = [draws.view(v) for v in range(len(self.augmentations))]
        pairs = list(zip(streams, self.augmentations, strict=True))
        boxes = np.stack([draw_crops(s, sizes, a.scale, a.ratio) for s, a in pairs], axis=1)
        flips = np.stack([draw_flips(s, a.flip) for s, a in pairs], axis=1)
        return crop_resize(items, boxes, self.size, flips)

    def finish(self, x: Tensor, draws: Draws) -> Tensor:
        """(B, V, 3, size, size) uint8 → float32 on the same device: colour, blur, solarisation."""
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for v, augmentation in enumerate(self.augmentations):
            look = Look.draw(draws.view(v), augmentation)
            look.apply(x[:, v], self.mean, self.std, out[:, v])
        return out


@dataclass(frozen=True)
class Look:
    """What is drawn for the photometric part of N images."""

    colour: Colour
    blurred: NDArray[np.bool_]
    sigma: NDArray[np.float64]
    solarised: NDArray[np.bool_]
    blur_kernel: float
    """Width of the blur's kernel as a share of the images' size."""

    @classmethod
    def draw(cls, draws: Draws, augmentation: ContrastiveAugmentation) -> "Look":
        unit = draws.uniform("look", 9).astype(np.float64).T
        low, high = augmentation.blur_sigma
        colour = colour_jitter(
            brightness=_factor(augmentation.brightness, unit[0]),
            contrast=_factor(augmentation.contrast, unit[1]),
            saturation=_factor(augmentation.saturation, unit[2]),
            hue=augmentation.hue * (2 * unit[3] - 1),
            order=draws.permutation("order", 4),
        )
        return cls(
            colour=colour.chosen(jitter=unit[4] < augmentation.jitter, grey=unit[5] < augmentation.grey),
            blurred=unit[6] < augmentation.blur,
            sigma=low + (high - low) * unit[7],
            solarised=unit[8] < augmentation.solarise,
            blur_kernel=augmentation.blur_kernel,
        )

    def rows(self, part: slice | NDArray[np.int64]) -> "Look":
        """Those of some of the images, in the order of the indices, with repetitions."""
        return replace(
            self,
            colour=self.colour.rows(part),
            blurred=self.blurred[part],
            sigma=self.sigma[part],
            solarised=self.solarised[part],
        )

    def apply(self, x: Tensor, mean: tuple[float, ...], std: tuple[float, ...], out: Tensor) -> None:
        """(N, 3, size, size) uint8 → ``out``, float32 on the same device, normalised."""
        size = x.shape[-1]
        kernel = max(3, int(self.blur_kernel * size) // 2 * 2 + 1)
        step = max(1, _IN_CACHE // (3 * size**2)) if x.device.type == "cpu" else len(x)
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            out[part] = self.rows(part)._applied(x[part], mean, std, kernel)

    def _applied(self, x: Tensor, mean: tuple[float, ...], std: tuple[float, ...], kernel: int) -> Tensor:
        y = colour_normalise(x, self.colour, mean, std)
        if self.blurred.any():
            rows = torch.from_numpy(np.flatnonzero(self.blurred)).to(x.device)
            y[rows] = gaussian_blur(y[rows], self.sigma[self.blurred], kernel)
        if self.solarised.any():
            rows = torch.from_numpy(np.flatnonzero(self.solarised)).to(x.device)
            y[rows] = solarise(y[rows], mean, std)
        return y


def _factor(width: float, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    low = max(0.0, 1 - width)
    return low + (1 + width - low) * unit
