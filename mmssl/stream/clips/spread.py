"""Moments for evaluation: spread evenly over a video, without any randomness."""

import numpy as np
from numpy.typing import NDArray

from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.views.draws import Draws


class Spread(Sampler):
    """``count`` single frames: the middles of ``count`` equal parts of the video."""

    def __init__(self, count: int) -> None:
        self.count = count

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        middles = (np.arange(self.count, dtype=np.float64) + 0.5) * (timeline.duration / self.count)
        return np.asarray(middles, dtype=np.float64)


class SpreadClips(Sampler):
    """``clips`` clips of ``frames`` frames every ``stride`` seconds, from the first that fits to the last.

    One clip lies in the middle; clips overlap where the video is short, and a video that is shorter than one
    clip is padded with its last frame.
    """

    def __init__(self, clips: int, frames: int, stride: float) -> None:
        self.clips, self.frames, self.stride = clips, frames, stride
        self.count = clips * frames

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        latest = max(0.0, float(timeline.times[-1]) - (self.frames - 1) * self.stride)
        starts = np.linspace(0, latest, self.clips) if self.clips > 1 else np.array([latest / 2])
        return (starts[:, None] + np.arange(self.frames) * self.stride).reshape(-1)
