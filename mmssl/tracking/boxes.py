"""Boxes: arrays (…, 4) float64 of x, y, width, height in pixels; the centre of the first pixel is (0, 0).

A box that covers the columns x … x + w − 1 has its centre at x + (w − 1) / 2, as in OTB's own code. NaN =
there is no box. Benchmarks count from 1; their readers subtract it and their writers add it again.
"""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]


def centres(boxes: Boxes) -> NDArray[np.float64]:
    """(…, 2) x, y of the boxes' centres."""
    return boxes[..., :2] + (boxes[..., 2:] - 1) / 2


def around(centre: NDArray[np.float64], size: NDArray[np.float64]) -> Boxes:
    """The boxes (…, 4) of ``size`` (…, 2) width, height around ``centre`` (…, 2); undoes ``centres``."""
    return np.concatenate([centre - (size - 1) / 2, size], axis=-1)


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of boxes (…, 4) pair by pair, in 0..1; NaN where a box or its size is NaN.

    Boxes without area overlap nothing, not even themselves.
    """
    corner = np.maximum(a[..., :2], b[..., :2])
    opposite = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.maximum(opposite - corner, 0).prod(axis=-1)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        # x + w − x need not be w: without the limit a box could overlap itself by more than 1.
        ratio = np.minimum(shared / union, 1.0)
        return np.where(union > 0, ratio, np.where(np.isnan(union), np.nan, 0.0))


def inside(boxes: Boxes, width: float, height: float) -> Boxes:
    """The part of each box within an image of that size: intersection, not shift; a new array."""
    corner = np.clip(boxes[..., :2], 0, (width, height))
    opposite = np.clip(boxes[..., :2] + boxes[..., 2:], 0, (width, height))
    return np.concatenate([corner, opposite - corner], axis=-1)


def enclosing(polygons: NDArray[np.float64]) -> Boxes:
    """The upright box (…, 4) around polygons (…, 2·n) of corners x1, y1, x2, y2, …"""
    x, y = polygons[..., 0::2], polygons[..., 1::2]
    left, top = x.min(axis=-1), y.min(axis=-1)
    return np.stack([left, top, x.max(axis=-1) - left, y.max(axis=-1) - top], axis=-1)
