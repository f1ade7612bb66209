"""VOT's experiments seen frame by frame: restarts after failures, and runs as trajectories.

The challenges up to 2019 supervise the tracker (Kristan et al., VOT 2013 to 2019): when its box misses the
truth it has failed, and it starts again from the truth five frames later.
"""

from time import perf_counter
from typing import Protocol

import numpy as np
from torch import Tensor

from mmssl.evaluate.tracking.experiments import has_box, start_box
from mmssl.evaluate.tracking.protocols.regions import corners, overlaps, true_regions
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.evaluate.tracking.trajectory import FAILURE, INIT, REGION, UNKNOWN, Trajectory
from mmssl.tracking.boxes import Boxes

SKIP = 5
"""Frames from a failure to the next start."""


class Follows(Protocol):
    """What follows one target: a tracker."""

    def init(self, frame: Tensor, box: Boxes) -> None: ...

    def update(self, frame: Tensor) -> tuple[Boxes, float]: ...


def supervise(tracker: Follows, sequence: Sequence) -> Trajectory:
    """VOT's reset-based experiment: a tracker whose box misses the truth starts again five frames later.

    Frames without truth cannot be missed nor started from. The challenge repeats this 15 times, for trackers
    that draw random numbers; ours draw none and all repetitions are the same run.
    """
    length = len(sequence)
    codes = np.full(length, UNKNOWN, dtype=np.int64)
    regions = np.full((length, 8), np.nan)
    seconds = np.zeros(length)
    size = sequence.size
    truth = true_regions(sequence)
    start: int | None = 0
    while start is not None:
        frame = sequence.frames[start]
        size = size or (frame.shape[2], frame.shape[1])
        began = perf_counter()
        tracker.init(frame, start_box(sequence, start))
        codes[start], seconds[start] = INIT, perf_counter() - began
        resume = length
        for number in range(start + 1, length):
            frame, began = sequence.frames[number], perf_counter()
            box, _ = tracker.update(frame)
            seconds[number] = perf_counter() - began
            if overlaps(corners(box)[None], truth[number : number + 1], size)[0] <= 0:  # NaN: nothing to miss
                codes[number], resume = FAILURE, number + SKIP
                break
            codes[number], regions[number] = REGION, corners(box)
        start = next((at for at in range(resume, length) if has_box(sequence.truth[at])), None)
    return Trajectory(codes, regions, seconds)


def trajectory(boxes: Boxes) -> Trajectory:
    """A run that was not interrupted: the first of ``boxes`` (n, 4) was given to the tracker."""
    codes = np.full(len(boxes), REGION, dtype=np.int64)
    codes[0] = INIT
    regions = corners(boxes)
    regions[0] = np.nan
    return Trajectory(codes, regions)
