"""Shares of frames over thresholds, and what is read off them.

Thresholds are the fractions k/20, k/40 and k/100 as close as float64 gets, so that an overlap of exactly 3/5
is compared with exactly 3/5: multiples of a rounded 0.05 exceed some of them by one unit in the last place.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmssl.evaluate.tracking.protocol import Curve

Floats = NDArray[np.float64]

OVERLAPS: Floats = np.arange(21) / 20
"""0, 0.05 … 1."""
PIXELS: Floats = np.arange(51.0)
"""0, 1 … 50 px."""
RELATIVE: Floats = np.arange(51) / 100
"""0, 0.01 … 0.50 of the target's size."""

SUCCESS, PRECISION, NORMALISED = "success", "precision", "normalised precision"


def success(overlap: Floats, frames: int, thresholds: Floats = OVERLAPS, ties: bool = False) -> Curve:
    """Frames whose overlap (N,) exceeds each threshold, of ``frames``; ``ties`` = equality is enough.

    NaN overlaps are misses at every threshold, and so are negative ones. No frame: NaN.
    """
    column = overlap[:, None]
    return Curve(
        thresholds,
        _share(column >= thresholds if ties else column > thresholds, frames),
        "overlap threshold",
        "success rate",
    )


def precision(error: Floats, frames: int, thresholds: Floats = PIXELS) -> Curve:
    """Frames whose centre error (N,) in px is at most each threshold; NaN errors are misses."""
    return Curve(thresholds, _share(error[:, None] <= thresholds, frames), "centre error in px", "precision")


def normalised_precision(error: Floats, frames: int, thresholds: Floats = RELATIVE) -> Curve:
    """The same of centre errors in widths and heights of the true box."""
    label = "centre error / target size"
    return Curve(thresholds, _share(error[:, None] <= thresholds, frames), label, NORMALISED)


def mean(curves: Sequence[Curve], weights: Sequence[float]) -> Curve:
    """The weighted mean of curves over the same thresholds without those of weight 0; NaN if none is left."""
    kept = np.asarray(weights, float) > 0
    first = curves[0]
    if not kept.any():
        return Curve(first.x, np.full(len(first.x), np.nan), first.x_label, first.y_label)
    rows = np.stack([curve.y for curve in curves])[kept]
    y = np.average(rows, axis=0, weights=np.asarray(weights, float)[kept])
    return Curve(first.x, y, first.x_label, first.y_label)


def area(curve: Curve) -> float:
    """The mean over the thresholds, in per cent: what most toolkits call the area under the curve."""
    return 100 * float(curve.y.mean())


def trapezoid(curve: Curve) -> float:
    """The area under the curve by the trapezoidal rule over its whole width, in per cent."""
    return 100 * float(np.trapezoid(curve.y, curve.x) / (curve.x[-1] - curve.x[0]))


def at(curve: Curve, threshold: float) -> float:
    """The value at one of the thresholds, in per cent."""
    (index,) = np.flatnonzero(np.isclose(curve.x, threshold))
    return 100 * float(curve.y[index])


def _share(hits: NDArray[np.bool_], frames: int) -> Floats:
    return hits.sum(axis=0) / frames if frames else np.full(hits.shape[1], np.nan)
