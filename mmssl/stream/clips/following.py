"""A frame and some that follow it: what trackers are trained on."""

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.views.draws import Draws


class Following(Sampler):
    """The time of a template's frame, then those of ``count`` different frames among the next ``within``.

    Times ascend. Both numbers count the video's own frames, as the papers do (UDT: 2 of the next 10, LUDT: 3
    of the next 20): a correlation filter finds what has moved by less than half its crop, and how far things
    move from frame to frame is what a camera's rate is chosen for. Shards of another rate take another
    ``within``.

    The template is uniform among the frames that ``count`` others follow before the next cut (``cuts`` in the
    sample's metadata, seconds). Where no shot is that long, it is uniform among all frames, and the last
    frame of its shot is repeated.

    Raises:
        MmsslError: no frame is to follow, or fewer than ``count`` can.
    """

    def __init__(self, count: int, within: int) -> None:
        if not 1 <= count <= within:
            raise MmsslError(
                f"following: {count} of the next {within} frames; expected at least 1, and at most all"
            )
        self.following, self.within = count, within
        self.count = 1 + count

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        numbers = np.arange(len(timeline.times))
        starts = np.concatenate([timeline.frames_at(np.array(timeline.meta.get("cuts", []))), [len(numbers)]])
        starts = np.unique(
            starts[starts > 0]
        )  # of every shot but the first, and of what comes behind the end
        last = starts[np.searchsorted(starts, numbers, side="right")] - 1  # of each frame's shot
        fitting = np.flatnonzero(last - numbers >= self.following)
        possible = fitting if len(fitting) else numbers
        template = possible[draws.integers("template", 1, 0, len(possible))[0, 0]]
        left = min(self.within, int(last[template] - template))
        chosen = np.sort(draws.permutation("following", max(left, 1))[0, : min(left, self.following)])
        chosen += template + 1
        padding = np.full(self.following - len(chosen), last[template])
        return timeline.times[np.concatenate([[template], chosen, padding])]
