"""Which moments of a video a view shows: in seconds, because frames mean nothing without their rate."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmssl.stream.views.draws import Draws

_SLACK = 1e-6
"""Seconds: rounding in timestamps must not turn a frame into the one before it."""


@dataclass(frozen=True)
class Timeline:
    """What a sampler may know of a video before any frame is decoded."""

    times: NDArray[np.float64]
    """(T,) presentation times in seconds, ascending, the first at 0."""
    duration: float
    """Seconds, the last frame's own time included."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """The sample's metadata; ``motion`` and ``cuts`` in it are as ``shards`` writes them."""

    def frames_at(self, moments: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number of the frame on screen at each moment (n,): the last that has appeared by then.

        Moments before the start see the first frame, and those behind the end see the last: short videos
        are padded.
        """
        shown = np.searchsorted(self.times, np.asarray(moments) + _SLACK, side="right") - 1
        return np.clip(shown, 0, len(self.times) - 1).astype(np.int64)


class Sampler(ABC):
    """Chooses moments; the same (seed, sample, pass) always gives the same ones."""

    count: int
    """How many moments."""

    @abstractmethod
    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        """(count,) seconds in the order in which the view shows them; ``draws`` has one row."""


def start(timeline: Timeline, span: float, draws: Draws) -> float:
    """A uniform start in seconds, such that ``span`` seconds fit into the video; 0 where they do not."""
    latest = max(0.0, float(timeline.times[-1]) - span)
    return float(draws.uniform("start")[0, 0]) * latest
