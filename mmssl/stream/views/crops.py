"""Where a view looks: random resized crops, drawn for a batch at once and resampled with antialiasing."""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.views.draws import Draws

Kernel = Literal["bilinear", "bicubic"]

_TRIES = 10


def image_sizes(images: Sequence[Tensor]) -> NDArray[np.int64]:
    """(B, 2) height and width of images (3, H, W)."""
    return np.array([image.shape[1:] for image in images], dtype=np.int64).reshape(len(images), 2)


def draw_crops(
    draws: Draws,
    sizes: NDArray[np.int64],
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> NDArray[np.int64]:
    """Boxes (B, 4) int64: top, left, height, width, of random resized crops (Szegedy et al., CVPR 2015).

    The share of the area is uniform in ``scale`` and width / height is log-uniform in ``ratio``, as in
    torchvision's RandomResizedCrop: the first of ten candidates that fits into the image is taken; when none
    does, the largest centred box whose shape lies within ``ratio``.

    Args:
        sizes: (B, 2) height and width of every image.
    """
    height, width = sizes[:, :1].astype(np.float64), sizes[:, 1:].astype(np.float64)
    unit = draws.uniform("crop", 2 * _TRIES + 2).astype(np.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * unit[:, :_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = np.exp(low + (high - low) * unit[:, _TRIES : 2 * _TRIES])
    h, w = np.rint(np.sqrt(area / shape)), np.rint(np.sqrt(area * shape))
    fits = (h > 0) & (h <= height) & (w > 0) & (w <= width)
    rows = np.arange(len(sizes))
    first = fits.argmax(axis=1)
    none = ~fits[rows, first]
    height, width = height[:, 0], width[:, 0]
    bound_h = np.minimum(height, np.rint(width / ratio[0]))
    bound_w = np.minimum(width, np.rint(height * ratio[1]))
    h = np.where(none, np.maximum(bound_h, 1), h[rows, first])
    w = np.where(none, np.maximum(bound_w, 1), w[rows, first])
    top = np.where(none, (height - h) // 2, np.floor(unit[:, -2] * (height - h + 1)))
    left = np.where(none, (width - w) // 2, np.floor(unit[:, -1] * (width - w + 1)))
    return np.stack([top, left, h, w], axis=1).astype(np.int64)


def draw_flips(draws: Draws, probability: float) -> NDArray[np.bool_]:
    """(B,) whether to mirror left and right."""
    flips: NDArray[np.bool_] = draws.uniform("flip")[:, 0] < probability
    return flips


def resize(image: Tensor, height: int, width: int, kernel: Kernel = "bilinear") -> Tensor:
    """(3, H, W) uint8 → (3, height, width) uint8, antialiased when shrinking (as Pillow does)."""
    if image.shape[1:] == (height, width):
        return image
    if height == width == 1:
        # In a single pixel torch's fast kernel cannot tell memory orders apart, and fails on planar input.
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return F.interpolate(image[None], (height, width), mode=kernel, antialias=True)[0]


def crop_resize(
    images: Sequence[Tensor],
    boxes: NDArray[np.int64],
    size: int,
    flips: NDArray[np.bool_],
    kernel: Kernel = "bilinear",
) -> Tensor:
    """Cut V boxes out of every image, resample them to size × size, mirror where asked.

    A crop that is not larger than the target needs no antialiasing: plain bilinear interpolation is then the
    same filter, and OpenCV's is several times faster; all other crops take torch's antialiased kernel.

    Args:
        images: B tensors (3, H, W) uint8 of any sizes; views of HWC memory, as decoders give, are fastest.
        boxes: (B, V, 4) top, left, height, width.
        flips: (B, V).

    Returns:
        (B, V, 3, size, size) uint8, contiguous.
    """
    out = torch.empty((*boxes.shape[:2], 3, size, size), dtype=torch.uint8)
    planes = out.numpy()
    for image, image_boxes, image_flips, image_planes in zip(
        images, boxes.tolist(), flips, planes, strict=True
    ):
        pixels = image.permute(1, 2, 0).numpy()
        for (top, left, h, w), flip, target in zip(image_boxes, image_flips, image_planes, strict=True):
            if kernel == "bilinear" and h <= size and w <= size:
                box = pixels[top : top + h, left : left + w]
                view = cv2.resize(box, (size, size), interpolation=cv2.INTER_LINEAR)
                cv2.split(cv2.flip(view, 1) if flip else view, list(target))
            else:
                crop = resize(image[:, top : top + h, left : left + w], size, size, kernel).numpy()
                target[...] = crop[:, :, ::-1] if flip else crop
    return out


def resize_frames(frames: Tensor, size: int, flip: bool, kernel: Kernel = "bilinear") -> Tensor:
    """(T, 3, H, W) uint8 → (T, 3, size, size): what ``crop_resize`` gives of each, in half the time.

    Views of (T, H, W, 3) memory are fastest.
    """
    count, _, h, w = frames.shape
    if (kernel == "bilinear" and h <= size and w <= size) or size == 1:
        boxes = np.broadcast_to(np.array([0, 0, h, w]), (count, 1, 4))
        return crop_resize(list(frames), boxes, size, np.full((count, 1), flip), kernel)[:, 0]
    if (h, w) != (size, size):
        frames = F.interpolate(frames, (size, size), mode=kernel, antialias=True)
    return frames.flip(3) if flip else frames


def warp(
    pixels: NDArray[np.uint8],
    centre: NDArray[np.float64],
    size: NDArray[np.float64],
    side: int,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """The window of ``size`` (width, height) around ``centre`` (x, y), stretched to side × side pixels.

    Bilinear, not antialiased, as trackers cut out what they look at. The middle of the window lies on the
    middle of the result; outside the image its border is repeated.

    Args:
        pixels: (H, W) or (H, W, 3).
        out: contiguous memory of the result's shape to write to; by default it is new.
    """
    scale = size / side
    shift = centre - scale * (side - 1) / 2
    back = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(  # type: ignore[return-value]
        pixels, back, (side, side), dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
