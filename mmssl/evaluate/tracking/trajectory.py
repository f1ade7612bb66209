"""A trajectory as the VOT challenges store it: a region or a special code for every frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REGION, UNKNOWN, INIT, FAILURE = -1, 0, 1, 2
"""What a frame's line is: a region, or one of the codes 0, 1 and 2 of VOT's result files."""


@dataclass(frozen=True)
class Trajectory:
    """T frames of one run of a tracker."""

    codes: NDArray[np.int64]
    """(T,) ``REGION``, ``UNKNOWN`` (skipped), ``INIT`` (given to the tracker) or ``FAILURE``."""
    regions: NDArray[np.float64]
    """(T, 8) corners x1, y1, …, counted from 0; NaN rows where the code is not ``REGION``. A box x, y, w, h
    has the corners (x, y), (x + w, y), (x + w, y + h), (x, y + h)."""
    seconds: NDArray[np.float64] | None = None
    """(T,) time that each frame took, where it was kept."""

    def __len__(self) -> int:
        return len(self.codes)
