"""Moments with a partner close by, and moments with the frames that lead up to them."""

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.views.draws import Draws

_SLACK = 1e-6
"""Seconds: a partner exactly ``radius`` away is within it, whatever the timestamps' rounding."""


class Pairs(Sampler):
    """All moments of ``anchors``, then a partner for each: another frame at most ``radius`` seconds away.

    The partner is uniform among the frames within the radius (single-view TCN, section III-A). Where there is
    no other frame so close, the anchor is its own partner, so that short and slow videos are not lost.

    Raises:
        MmsslError: a radius that is not longer than 0 seconds.
    """

    def __init__(self, anchors: Sampler, radius: float) -> None:
        if not radius > 0:
            raise MmsslError(f"pairs: radius {radius} s; expected more than 0")
        self.anchors, self.radius = anchors, radius
        self.count = 2 * anchors.count

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        numbers = timeline.frames_at(self.anchors.moments(timeline, draws))
        times = timeline.times
        first = np.searchsorted(times, times[numbers] - self.radius - _SLACK, side="left")
        last = np.searchsorted(times, times[numbers] + self.radius + _SLACK, side="right") - 1
        others = last - first  # the anchor itself lies between them
        drawn = draws.integers("partners", len(numbers), 0, np.maximum(others, 1)[None])[0]
        partner = first + drawn + (first + drawn >= numbers)
        return times[np.concatenate([numbers, np.where(others > 0, partner, numbers)])]


class LeadingUp(Sampler):
    """Every moment of ``moments_of`` behind the ``frames`` - 1 before it, ``stride`` seconds apart.

    The multi-frame input of mfTCN (Dwibedi et al., IROS 2018): an embedding sees the past of its moment and
    never its future. What lies before the start of a video is its first frame.

    Raises:
        MmsslError: no frame, or a stride that is not longer than 0 seconds.
    """

    def __init__(self, moments_of: Sampler, frames: int, stride: float) -> None:
        if frames < 1 or not stride > 0:
            raise MmsslError(f"{frames} frames every {stride} s; expected at least 1, stride > 0")
        self.moments_of, self.frames, self.stride = moments_of, frames, stride
        self.count = moments_of.count * frames

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        back = np.arange(self.frames - 1, -1, -1, dtype=np.float64) * self.stride
        return (self.moments_of.moments(timeline, draws)[:, None] - back).reshape(-1)
