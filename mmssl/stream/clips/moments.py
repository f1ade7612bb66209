"""Single moments out of a window: what methods that compare the times of one video need."""

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler, Timeline, start
from mmssl.stream.views.draws import Draws


class Window(Sampler):
    """The times of ``count`` different frames, ascending, from a random window of ``seconds``.

    The window's start is uniform, and so is the choice of frames within it, without replacement (Sermanet et
    al., "Time-Contrastive Networks", ICRA 2018, section III). A window that holds fewer frames gives all of
    them, and repeats the last.

    Raises:
        MmsslError: no moments, or a window that is not longer than 0 seconds.
    """

    def __init__(self, count: int, seconds: float) -> None:
        if count < 1 or not seconds > 0:
            raise MmsslError(f"window: {count} moments in {seconds} s; expected at least 1, and seconds > 0")
        self.count, self.seconds = count, seconds

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        begin = start(timeline, self.seconds, draws)
        first, last = timeline.frames_at(np.array([begin, begin + self.seconds])).tolist()
        chosen = np.sort(draws.permutation("frames", last - first + 1)[0, : self.count]) + first
        padded = np.concatenate([chosen, np.full(self.count - len(chosen), last)])
        return timeline.times[padded]
