"""What is measured while a video is re-encoded: motion between frames, and cuts from one shot to another."""

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.shards.flow.estimators import SMALLEST, Dis
from mmssl.shards.video.raw import Pixels

SIDE = 112
"""Short side, in pixels, of the frames that are compared; smaller ones are compared as they are."""
CHANGE = 0.15
"""Least change of the colour histogram, 0..1, at a cut."""
UNEXPLAINED = 0.5
"""Least share of the luma difference at a cut that optical flow cannot explain."""
STANDS_OUT = 5.0
"""How many times the histogram must change what it changes nearby, so that flicker and pans are no cuts."""
_NEARBY = 4


class Measures:
    """``put`` every stored frame in order; then ``motion`` and ``cuts`` for their times."""

    def __init__(self) -> None:
        self._flow = Dis("fast")
        self._luma: NDArray[np.uint8] | None = None
        self._histogram: NDArray[np.float64] | None = None
        self._lengths: list[float] = []
        self._changes: list[float] = []
        self._unexplained: list[float] = []

    def put(self, rgb: Pixels) -> None:
        """(H, W, 3) uint8; all of one size."""
        small = _small(rgb)
        luma = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        histogram = _colours(small)
        if self._luma is not None and self._histogram is not None:
            flow = self._flow.between(self._luma, luma)
            self._lengths.append(float(np.linalg.norm(flow, axis=2).mean()) / min(luma.shape))
            self._changes.append(float(np.abs(histogram - self._histogram).sum()) / 2)
            self._unexplained.append(_unexplained(self._luma, luma, flow))
        self._luma, self._histogram = luma, histogram

    def cuts(self) -> list[int]:
        """Numbers of the frames with which a new shot begins, ascending, without 0.

        Frame i + 1 begins a shot if the colour histogram changes by at least CHANGE from frame i, by
        STANDS_OUT times the median change of the neighbouring pairs, and flow leaves at least UNEXPLAINED
        of the difference between the two frames. Only hard cuts are found; dissolves are not.
        """
        found = []
        for pair, change in enumerate(self._changes):
            near = self._changes[max(pair - _NEARBY, 0) : pair] + self._changes[pair + 1 : pair + 1 + _NEARBY]
            usual = float(np.median(near)) if near else 0.0
            if change >= CHANGE and change >= STANDS_OUT * usual and self._unexplained[pair] >= UNEXPLAINED:
                found.append(pair + 1)
        return found

    def motion(self, times: list[float]) -> list[float]:
        """Mean length of the flow from each frame to the next, in short sides of the frame per second.

        Nothing moves across a cut: the frame before it, like the last frame, repeats the value before.
        """
        cuts = set(self.cuts())
        speeds: list[float] = []
        for frame, (before, after) in enumerate(pairwise(times)):
            if frame + 1 in cuts:
                speeds.append(speeds[-1] if speeds and frame not in cuts else 0.0)
            else:
                speeds.append(round(self._lengths[frame] / (after - before), 4))
        return [*speeds, speeds[-1] if speeds and len(times) - 1 not in cuts else 0.0]


def _small(rgb: Pixels) -> Pixels:
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / min(height, width))
    size = (max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale)))
    if size == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colours(rgb: Pixels) -> NDArray[np.float64]:
    """(512,) share of pixels by colour, 8 bins a channel, each pixel shared among neighbouring bins.

    Shared, so that a slight change of brightness moves little weight instead of whole flat areas.
    """
    counts = np.asarray(cv2.calcHist([rgb], [0, 1, 2], None, [8, 8, 8], [0, 256, 0, 256, 0, 256]), np.float32)
    for axis in range(3):
        counts = _blur(counts, axis)
    return np.asarray(counts, np.float64).ravel() / counts.sum()


def _blur(counts: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    padded = np.concatenate([counts.take([0], axis), counts, counts.take([-1], axis)], axis)
    bins = counts.shape[axis]
    parts = [padded.take(range(shift, shift + bins), axis) for shift in range(3)]
    return np.asarray((parts[0] + 2 * parts[1] + parts[2]) / 4, np.float32)


def _unexplained(before: NDArray[np.uint8], after: NDArray[np.uint8], flow: NDArray[np.float32]) -> float:
    """Mean luma error after warping along the flow, as a share of that between unrelated pixels.

    The scale is the mean difference of randomly paired pixels of the two frames, from the areas between
    their distribution functions: a cut to another scene leaves about 1, motion far less. The second frame is
    first brought to the mean and spread of the first one, so that lights that go on do not make a cut.
    """
    matched = _like(after, before)
    rows, columns = np.indices(before.shape, dtype=np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    warped = np.asarray(cv2.remap(matched, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE))
    error = float(np.abs(warped.astype(np.float32) - before).mean())
    first, second = (
        np.cumsum(np.bincount(luma.ravel(), minlength=256)) / luma.size for luma in (before, matched)
    )
    unrelated = float((first * (1 - second) + second * (1 - first)).sum())
    return error / max(unrelated, 1.0)


def _like(luma: NDArray[np.uint8], model: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = float(model.std()) / max(float(luma.std()), 1.0)
    return np.asarray(np.clip(np.rint((luma - luma.mean()) * scale + model.mean()), 0, 255), np.uint8)
