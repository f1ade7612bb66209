"""One box cut out of any modality, resampled to a square and mirrored: what turns, turns with the pixels.

Images take the antialiased kernels of ``crops``. Depth, normals and flow take the same bilinear filter,
widened when shrinking, over the known pixels alone: a result is the weighted mean of what is known under the
filter, and unknown where less than half of the filter's weight is known. At the edge of an object that mixes
near and far, as the pixels of the image beside it are mixed. Labels are never mixed: the nearest pixel's.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.views.crops import Kernel, crop_resize

Box = tuple[float, float, float, float]
"""Top, left, height, width in pixels of what is cut; images are cut at whole pixels."""

_KNOWN = 0.5
"""Least share of the filter's weight that must be known."""
_DIRECTION = 1e-3
"""Mean vectors shorter than that have no direction."""


def cut(modality: str, x: Tensor, box: Box, size: int, flip: bool, kernel: Kernel = "bilinear") -> Tensor:
    """The box of one picture as size × size pixels.

    Args:
        modality: image, depth, normals, segmentation or flow.
        x: (C, H, W) as ``mmssl.modalities`` says: image and segmentation uint8; depth in metres, 0 = missing;
            unit normals, 0 = missing; flow in pixels of ``x``, NaN = unknown.
        box: inside the picture.
        flip: mirror left and right; the x components of normals and flow change their sign.
        kernel: of images.

    Returns:
        (C, size, size) of the same kind and dtype; flow in pixels of the result.
    """
    if modality == "image":
        whole = np.array([_whole(box, *x.shape[1:])])[:, None]
        return crop_resize([x], whole, size, np.array([[flip]]), kernel)[0, 0]
    cut_map = _MAPS[modality](x.numpy(), box, size)
    if flip:
        cut_map = cut_map[..., ::-1].copy()
        if modality in ("normals", "flow"):
            np.negative(cut_map[0], out=cut_map[0])
    return torch.from_numpy(np.ascontiguousarray(cut_map))


def scaled(box: Box, height: float, width: float) -> Box:
    """The box in a picture of the same scene with ``height`` and ``width`` times as many pixels."""
    top, left, h, w = box
    return top * height, left * width, h * height, w * width


def largest_square(height: int, width: int) -> Box:
    """The largest square in the centre, at whole pixels."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _whole(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """The nearest box of whole pixels, at least one."""
    top, left = min(round(box[0]), height - 1), min(round(box[1]), width - 1)
    bottom, right = round(box[0] + box[2]), round(box[1] + box[3])
    return top, left, max(min(bottom, height) - top, 1), max(min(right, width) - left, 1)


def _depth(x: NDArray[np.float32], box: Box, size: int) -> NDArray[np.float32]:
    return _mean_of_known(x, x > 0, box, size, unknown=0.0)


def _normals(x: NDArray[np.float32], box: Box, size: int) -> NDArray[np.float32]:
    mean = _mean_of_known(x, np.any(x != 0, 0, keepdims=True), box, size, unknown=0.0)
    length = np.sqrt(np.square(mean).sum(0, keepdims=True))
    return np.where(length > _DIRECTION, mean / np.maximum(length, _DIRECTION), np.float32(0))


def _flow(x: NDArray[np.float32], box: Box, size: int) -> NDArray[np.float32]:
    known = np.all(np.isfinite(x), 0, keepdims=True)
    flow = _mean_of_known(np.where(known, x, np.float32(0)), known, box, size, unknown=math.nan)
    flow *= np.array([size / box[3], size / box[2]], np.float32)[:, None, None]
    return flow


def _segmentation(x: NDArray[np.uint8], box: Box, size: int) -> NDArray[np.uint8]:
    rows, columns = (
        np.clip(((np.arange(size) + 0.5) * (length / size) + start).astype(np.int64), 0, end - 1)
        for start, length, end in ((box[0], box[2], x.shape[1]), (box[1], box[3], x.shape[2]))
    )
    return x[:, rows[:, None], columns]


_MAPS: dict[str, Callable[..., NDArray[np.generic]]] = {
    "depth": _depth,
    "normals": _normals,
    "flow": _flow,
    "segmentation": _segmentation,
}


def _mean_of_known(
    x: NDArray[np.float32], known: NDArray[np.bool_], box: Box, size: int, unknown: float
) -> NDArray[np.float32]:
    """(C, size, size): weighted means of the known pixels (1, H, W) of x, which is 0 at all others."""
    rows, first_row = _filter(box[0], box[2], x.shape[1], size)
    columns, first_column = _filter(box[1], box[3], x.shape[2], size)
    inside = (
        slice(None),
        slice(first_row, first_row + rows.shape[1]),
        slice(first_column, first_column + columns.shape[1]),
    )
    mean = rows @ (x[inside] @ columns.T)
    seen = known[inside]
    if seen.all():
        return mean
    weight = rows @ (seen.astype(np.float32) @ columns.T)
    # Sums of weights that should be exactly one half must not fall on either side by rounding.
    enough = weight > _KNOWN - 1e-4
    return np.where(enough, mean / np.maximum(weight, 1e-4), np.float32(unknown))


def _filter(start: float, length: float, end: int, size: int) -> tuple[NDArray[np.float32], int]:
    """Weights (size, n) of pixels ``first`` … ``first + n - 1``, and ``first``: the triangle of bilinear
    interpolation, widened by the scale when shrinking; pixels outside the box have no weight."""
    first = min(math.floor(start + 1e-6), end - 1)
    last = max(min(math.ceil(start + length - 1e-6), end), first + 1)
    scale = length / size
    centres = start + (np.arange(size) + 0.5) * scale
    away = (np.arange(first, last) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = np.maximum(1 - np.abs(away), 0)
    # Only where a box is smaller than a pixel can a centre lie a whole pixel from all of them.
    weights[weights.sum(1) <= 0, 0] = 1
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32), first
