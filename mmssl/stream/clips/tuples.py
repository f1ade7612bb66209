"""Moments whose order is a question: neither too close to be told apart nor too far apart to be related.

A tuple gets its shape first (how many seconds lie between its moments) and its place second: of all the
places where it fits into one shot, one is drawn with the motion inside it as the weight, because where
nothing moves nothing tells the order (Misra, Zitnick, Hebert, "Shuffle and Learn", ECCV 2016).
"""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from mmssl.stream.clips.base import Sampler, Timeline
from mmssl.stream.views.draws import Draws

_SLACK = 1e-6
"""Seconds, as in ``Timeline``."""

Seconds = tuple[float, float]


class Tuples(Sampler):
    """Moments in ascending order, inside one shot, with motion between them.

    Where a video is too short for a tuple's shape, the shape is shrunk to the longest shot; where no place
    has enough motion, the place is taken whose least moving stretch moves most. No video is dropped.

    Args:
        floor: how far things must have moved between neighbouring moments that are compared, in short sides
            of a frame (along their path, from ``meta.motion``); without ``meta.motion`` frames must differ.
    """

    compared: tuple[int, ...]
    """Indices of the moments between which there has to be motion."""

    def __init__(self, count: int, compared: tuple[int, ...], floor: float) -> None:
        self.count, self.compared, self.floor = count, compared, floor

    @abstractmethod
    def shape(self, draws: Draws) -> NDArray[np.float64]:
        """(count,) seconds since the first moment, ascending."""

    def moments(self, timeline: Timeline, draws: Draws) -> NDArray[np.float64]:
        """As ``Sampler.moments``.

        Raises:
            ValueError: ``meta.motion`` or ``meta.cuts`` is not what ``shards`` writes.
        """
        times = timeline.times
        path = _path(timeline)
        shot = np.searchsorted(_cuts(timeline), times + _SLACK, side="right")
        starts, ends = np.unique(shot, return_index=True)[1], np.flatnonzero(np.diff(shot, append=-1))
        room = float((times[ends] - times[starts]).max())  # of the longest shot
        shape = self.shape(draws)
        shape = shape * min(1.0, room / shape[-1]) if shape[-1] > 0 else shape

        places = times[:, None] + shape  # (T, count): the tuple, begun at every frame
        last = times[ends[np.searchsorted(ends, np.arange(len(times)))]]  # of the frame's own shot
        fits = places[:, -1] <= last + _SLACK
        frames = timeline.frames_at(places.reshape(-1)).reshape(places.shape)
        compared = frames[:, self.compared]
        moved = np.diff(path[compared], axis=1)
        good = fits & (np.diff(compared, axis=1) > 0).all(axis=1) & (moved >= self.floor).all(axis=1)
        if not good.any():
            return places[np.where(fits, moved.min(axis=1), -1.0).argmax()]
        return places[_choose(np.where(good, path[frames[:, -1]] - path[frames[:, 0]], 0.0), good, draws)]


class FiveFrames(Tuples):
    """a < b < c < d < e of Shuffle & Learn: b and d are the ends of every triple, a, c and e its middles.

    Args:
        spacing: shortest and longest (τ_min, τ_max). From b to d it is anything between them, with c in the
            middle half; from a to b and from d to e it is between once and twice the shortest.
    """

    def __init__(self, spacing: Seconds, floor: float) -> None:
        super().__init__(5, (0, 1, 2, 3, 4), floor)
        self.spacing = spacing

    def shape(self, draws: Draws) -> NDArray[np.float64]:
        shortest, longest = self.spacing
        unit = draws.uniform("shape", 4)[0].astype(np.float64)
        before, behind = shortest * (1 + unit[:2])
        ends = shortest + (longest - shortest) * unit[2]
        b, d = before, before + ends
        return np.array([0.0, b, b + ends * (0.25 + 0.5 * unit[3]), d, d + behind])


class Units(Tuples):
    """Frames or clips one behind the other: ``units`` of ``frames`` frames every ``stride`` seconds.

    Args:
        spacing: shortest and longest pause from the last frame of a unit to the first of the next, in
            seconds; each pause is uniform between them.
    """

    def __init__(self, units: int, frames: int, stride: float, spacing: Seconds, floor: float) -> None:
        count = units * frames
        super().__init__(count, tuple(range(0, count, frames)) if units > 1 else (0, count - 1), floor)
        self.units, self.frames, self.stride, self.spacing = units, frames, stride, spacing

    def shape(self, draws: Draws) -> NDArray[np.float64]:
        within = np.arange(self.frames) * self.stride
        low, high = self.spacing
        pauses = low + (high - low) * draws.uniform("shape", self.units)[0, 1:].astype(np.float64)
        starts = np.concatenate([[0.0], np.cumsum(pauses + within[-1])])
        return (starts[:, None] + within).reshape(-1)


def _choose(weight: NDArray[np.float64], allowed: NDArray[np.bool_], draws: Draws) -> int:
    """An index drawn with probability ∝ ``weight`` (n,); uniform over the allowed where all weights are 0."""
    total = np.cumsum(weight if weight.sum() > 0 else allowed.astype(np.float64))
    drawn = np.searchsorted(total, float(draws.uniform("place")[0, 0]) * total[-1], side="right")
    # rounding may lead behind the last one that has any weight
    return int(min(drawn, np.searchsorted(total, total[-1])))


def _path(timeline: Timeline) -> NDArray[np.float64]:
    """(T,) how far things have moved up to each frame, in short sides; frame numbers where nobody knows."""
    frames = len(timeline.times)
    if timeline.meta.get("motion") is None:
        return np.arange(frames, dtype=np.float64)
    motion = _numbers(timeline, "motion")
    if motion.shape != (frames,) or (motion < 0).any():
        raise ValueError(f"meta: motion: expected {frames} numbers, one a frame, none below 0")
    return np.concatenate([[0.0], np.cumsum(motion[:-1] * np.diff(timeline.times))])


def _cuts(timeline: Timeline) -> NDArray[np.float64]:
    return np.sort(_numbers(timeline, "cuts"))


def _numbers(timeline: Timeline, name: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(timeline.meta.get(name) or [], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"meta: {name}: expected a list of numbers") from error
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError(f"meta: {name}: expected a list of finite numbers")
    return numbers
