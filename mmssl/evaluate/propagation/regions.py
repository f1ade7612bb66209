"""Region similarity J and contour accuracy F of masks, and their statistics over time.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation" (CVPR 2016,
section 5); details as in the public evaluation of DAVIS 2017, except that its indices of quarters overflow
for videos of more than 256 frames.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""(H, W)."""

TOLERANCE = 0.008
"""Of the image's diagonal: how far, rounded up to pixels, a contour may lie from the true one."""


def jaccard(found: Mask, truth: Mask) -> float:
    """J: intersection over union in 0..1; 1 where both are empty."""
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 1.0


def contour(mask: Mask) -> Mask:
    """Pixels that differ from the one to the right, below, or below to the right.

    Of the last column only the one below counts, of the last row only the one to the right, and the last
    pixel is never a contour: the image's own border is none.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def contour_accuracy(found: Mask, truth: Mask) -> float:
    """F in 0..1: harmonic mean of the shares of each contour that lie within reach of the other.

    A contour that is missing has precision 1 and recall 0, one too many the reverse: F is 0; without any,
    F is 1.
    """
    reach = int(np.ceil(TOLERANCE * np.hypot(*truth.shape)))
    ours, theirs = contour(found), contour(truth)
    count, true = np.count_nonzero(ours), np.count_nonzero(theirs)
    if not count or not true:
        return float(count == true)
    disc = _disc(reach)
    precision = np.count_nonzero(ours & _grown(theirs, disc)) / count
    recall = np.count_nonzero(theirs & _grown(ours, disc)) / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _disc(radius: int) -> NDArray[np.uint8]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (y**2 + x**2 <= radius**2).astype(np.uint8)


def _grown(mask: Mask, disc: NDArray[np.uint8]) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), disc).astype(bool)


def statistics(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, recall and decay of (T,) values in 0..1 of one object over time.

    Recall is the share above 0.5; decay the mean of the first quarter less that of the last. Quarters share
    the frames at which they meet.
    """
    bounds = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1
    first, last = values[: bounds[1] + 1], values[bounds[3] :]
    return float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean())
