"""Overlap of four-cornered regions as VOT measures it: both are drawn into the pixels of the image.

Corners are rounded to pixels (halves upwards); in every row, the pixels from edge to edge belong to the
region, both ends included and the crossings cut to whole columns, so that a region contains its own corners.
Only pixels of the image count. This is the drawing rule of TraX's region code, with which VOT's toolkits
score. It draws a box x, y, w, h into the columns x … x + w − 1, and so does this, although the corners of a
trajectory's box are x and x + w. An axis-aligned polygon in the same order of corners is taken for a box.
"""

import numpy as np
from numpy.typing import NDArray

from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.boxes import Boxes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_BLOCK = 2**17
"""Rows of pixels that are drawn at a time, over all frames: bounds the memory."""


def corners(boxes: Boxes) -> Floats:
    """(…, 8) x1, y1, … of boxes (…, 4): (x, y), (x + w, y), (x + w, y + h), (x, y + h)."""
    x, y, w, h = np.moveaxis(boxes, -1, 0)
    return np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=-1)


def true_regions(sequence: Sequence) -> Floats:
    """(T, 8) corners of the truth: the polygons where there are some, else those of the boxes."""
    return corners(sequence.truth) if sequence.polygons is None else sequence.polygons


def overlaps(a: Floats, b: Floats, size: tuple[int, int]) -> Floats:
    """(T,) intersection over union, pixel by pixel, of regions (T, 8), in 0..1.

    Regions that share no pixel of the image of ``size`` = (width, height) have 0; NaN where a corner is NaN.
    """
    width, height = size
    known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    found = np.full(len(a), np.nan)
    both = np.stack([_pixels(a[known]), _pixels(b[known])])  # (2, K, 4, 2)
    top = np.clip(both[..., 1].min(axis=(0, 2)), 0, height)
    tall = np.clip(both[..., 1].max(axis=(0, 2)) + 1, 0, height) - top
    ratios = np.zeros(len(top))
    order = np.argsort(tall)  # frames of like height share a block
    step = max(1, _BLOCK // max(1, int(tall.max(initial=0))))
    for start in range(0, len(order), step):
        block = order[start : start + step]
        rows = top[block, None] + np.arange(tall[block].max())
        rows = np.where(rows < height, rows, -1)  # no region has a row −1 left: see _spans
        ratios[block] = _ratio(*(_spans(region[block], rows, width) for region in both))
    found[known] = ratios
    return found


def _pixels(regions: Floats) -> Integers:
    """(K, 4, 2) corners in whole pixels."""
    points = regions.reshape(-1, 4, 2).copy()
    boxes = (
        (points[:, 0, 0] == points[:, 3, 0])
        & (points[:, 1, 0] == points[:, 2, 0])
        & (points[:, 0, 1] == points[:, 1, 1])
        & (points[:, 2, 1] == points[:, 3, 1])
        & (points[:, 2] > points[:, 0]).all(axis=1)
    )
    points[boxes, 1:3, 0] -= 1
    points[boxes, 2:4, 1] -= 1
    return np.floor(points + 0.5).astype(np.int64)


def _spans(points: Integers, rows: Integers, width: int) -> tuple[Integers, Integers]:
    """First and last columns (K, R, 2) of the two spans, which may be empty, of each region in each row."""
    x, y = points[:, None, :, 0], points[:, None, :, 1]
    from_x, from_y = np.roll(x, 1, axis=-1), np.roll(y, 1, axis=-1)
    row = rows[..., None]
    met = (np.minimum(y, from_y) <= row) & (row <= np.maximum(y, from_y)) & (row >= 0)
    rise = np.where(y == from_y, 1, from_y - y)
    crossing = np.where(y == from_y, x, np.trunc(x + (row - y) / rise * (from_x - x)))
    nodes = np.sort(np.where(met, crossing, np.inf), axis=-1)
    n = met.sum(axis=-1)
    # A corner is met by two edges. Doubled nodes are skipped, unless they are the last pair.
    skip = (nodes[..., 0] == nodes[..., 1]) & (n > 2)
    skip2 = skip & (nodes[..., 1] == nodes[..., 2]) & (n > 3)
    start = skip.astype(np.int64) + skip2
    first = np.take_along_axis(nodes, start[..., None] + [0, 1], axis=-1)
    second = nodes[..., 2:]
    some, more = n >= 2, (n == 4) & ~skip
    low = np.stack([first[..., 0], np.maximum(second[..., 0], first[..., 1] + 1)], axis=-1)
    high = np.stack([first[..., 1], second[..., 1]], axis=-1)
    drawn = np.stack([some, more], axis=-1)
    low = np.where(drawn, np.clip(low, 0, width), 0).astype(np.int64)
    high = np.where(drawn, np.clip(high, -1, width - 1), -1).astype(np.int64)
    return low, high


def _ratio(a: tuple[Integers, Integers], b: tuple[Integers, Integers]) -> Floats:
    """(K,) shared pixels over all pixels of two regions given as disjoint spans."""
    low = np.maximum(a[0][..., :, None], b[0][..., None, :])
    high = np.minimum(a[1][..., :, None], b[1][..., None, :])
    shared = np.maximum(high - low + 1, 0).sum(axis=(1, 2, 3))
    areas = [np.maximum(high - low + 1, 0).sum(axis=(1, 2)) for low, high in (a, b)]
    union = areas[0] + areas[1] - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 0.0)
