"""Moments in a row: what methods that predict the future of a video need."""

import numpy as np
from numpy.typing import NDArray

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler, Timeline, start
from mmssl.stream.views.draws import Draws


class Blocks(Sampler):
    """``blocks`` · ``frames`` moments every ``stride`` seconds from a uniform start on.

    Consecutive blocks do not overlap and leave no gap between them: block i is the moments i · frames to
    (i + 1) · frames - 1 (Han et al., "Video Representation Learning by Dense Predictive Coding", ICCVW
    2019, section 4.1). A video that is too short is padded with its last frame.

    Raises:
        MmsslError: no blocks, no frames, or a stride that is not positive.
    """

    def __init__(self, blocks: int, frames: int, stride: float) -> None:
        if blocks < 1 or frames < 1 or not stride > 0:
            raise MmsslError(
                f"{blocks} blocks of {frames} frames every {stride} s; expected at least 1, stride > 0"
            )
        self.blocks, self.frames, self.stride = blocks, frames, stride
        self.count = blocks * frames

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        first = start(timeline, (self.count - 1) * self.stride, draws)
        return first + np.arange(self.count, dtype=np.float64) * self.stride
