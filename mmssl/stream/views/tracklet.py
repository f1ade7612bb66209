"""What is worth following in a frame, and following it for a few: how LUDT chooses its crops without labels.

All of it on grey levels, in numpy, for one sample at a time; points are (x, y) in pixels, as boxes are.
"""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.stream.views.crops import warp

Floats = NDArray[np.float64]
Spectrum = NDArray[np.complex128]
Grey = NDArray[np.uint8]

GRID = 5
"""Candidates in each direction (LUDT, IJCV 2021)."""
SIDE, CELL, BINS = 96, 4, 9
"""Pixels of the window that is looked at, pixels of a cell of its histograms, and their orientations."""
PADDING, SIGMA, LAM, RATE = 1.5, 0.1, 1e-4, 0.02
"""Henriques et al., "High-Speed Tracking with Kernelized Correlation Filters" (TPAMI 2015), table 2."""


def entropy(grey: Grey) -> float:
    """Bits of the distribution of the 256 levels."""
    counts = np.bincount(grey.reshape(-1), minlength=256)
    share = counts[counts > 0] / grey.size
    return float(-(share * np.log2(share)).sum())


def most_textured(grey: Grey, size: Floats) -> Floats:
    """The centre (x, y) of that of 25 boxes of ``size`` whose grey levels have the highest entropy.

    Their centres lie on a 5 × 5 grid that divides the frame into sixths; of equals the first one in reading
    order is taken.
    """
    height, width = grey.shape
    centres = [
        np.array([width * (column + 1), height * (row + 1)]) / (GRID + 1) - 0.5
        for row in range(GRID)
        for column in range(GRID)
    ]
    return max(centres, key=lambda centre: entropy(_box(grey, centre, size)))


def _box(grey: Grey, centre: Floats, size: Floats) -> Grey:
    first = np.maximum(np.rint(centre - (size - 1) / 2).astype(int), 0)
    left, top = np.minimum(first, [grey.shape[1] - 1, grey.shape[0] - 1])
    width, height = np.maximum(np.rint(size).astype(int), 1)
    return grey[top : top + height, left : left + width]


def tracklet(frames: Iterable[Grey], centre: Floats, size: Floats) -> Iterator[Floats]:
    """Where the box of ``size`` around ``centre`` of the first frame is in each: its centres (x, y).

    A correlation filter with a linear kernel on histograms of oriented gradients (KCF, equations 17, 21 and
    31 with σ, λ and rate of its table 2), at constant scale. The centre never leaves the frame.
    """
    window, cells = size * (1 + PADDING), SIDE // CELL
    hann = np.hanning(cells + 2)[1:-1]
    taper = hann[:, None] * hann
    sigma = SIGMA * cells / (1 + PADDING)
    square = np.fft.fftfreq(cells, 1 / cells) ** 2
    label = np.fft.rfft2(np.exp(-(square[:, None] + square) / (2 * sigma**2)))
    learned: tuple[Spectrum, Spectrum] | None = None
    for frame in frames:
        if learned is not None:
            alpha, x = learned
            z = np.fft.rfft2(hog(warp(frame, centre, window, SIDE)) * taper)
            response = np.fft.irfft2(alpha * (z * x.conj()).mean(axis=0), s=(cells, cells))
            down, right = _peak(response)
            moved = centre + np.array([right, down]) * window / cells
            centre = np.clip(moved, 0, np.array(frame.shape[::-1]) - 1)
        x = np.fft.rfft2(hog(warp(frame, centre, window, SIDE)) * taper)
        alpha = label / ((np.abs(x) ** 2).mean(axis=0) + LAM)
        if learned is None:
            learned = alpha, x
        learned = learned[0] + RATE * (alpha - learned[0]), learned[1] + RATE * (x - learned[1])
        yield centre


def _peak(response: Floats) -> Floats:
    """(2,) how far down and right the maximum lies, circular, refined by parabolas through its neighbours."""
    place = np.array(np.unravel_index(response.argmax(), response.shape))
    refined = []
    for axis, at in enumerate(place):
        n = response.shape[axis]
        line = response.take(place[1 - axis], axis=1 - axis)
        before, here, after = line[(at - 1) % n], line[at], line[(at + 1) % n]
        curve = before - 2 * here + after
        offset = at + ((before - after) / (2 * curve) if curve < 0 else 0.0)
        refined.append(offset - n if offset > n / 2 else offset)
    return np.array(refined)


def hog(grey: Grey) -> Floats:
    """(9, side / 4, side / 4) histograms of unsigned gradient directions (Dalal and Triggs, CVPR 2005).

    A cell's histogram is divided by the length of those of its 3 × 3 neighbourhood, and clipped at 0.2.
    """
    dx = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=1)
    dy = cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=1)
    place = np.arctan2(dy, dx) * (BINS / np.pi) % BINS
    low = np.floor(place)
    upper = place - low
    length = np.hypot(dx, dy)
    rows, columns = (np.arange(n) // CELL for n in grey.shape)
    cells = (grey.shape[0] // CELL, grey.shape[1] // CELL)
    cell = rows[:, None] * cells[1] + columns
    histogram = np.zeros(BINS * cell.max() + BINS)
    for bins, weight in ((low % BINS, 1 - upper), ((low + 1) % BINS, upper)):
        index = cell * BINS + bins.astype(np.int64)
        histogram += np.bincount(index.ravel(), (length * weight).ravel(), minlength=len(histogram))
    h = histogram.reshape(*cells, BINS)
    energy = cv2.boxFilter((h**2).sum(axis=-1), -1, (3, 3), normalize=False)
    return np.minimum(h / np.sqrt(energy + 1e-3)[..., None], 0.2).transpose(2, 0, 1)
