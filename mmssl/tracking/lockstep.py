"""Many sequences tracked side by side: one batch of crops a step, frames decoded ahead in the background."""

import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.tracking.boxes import Boxes
from mmssl.tracking.frames import Frames
from mmssl.tracking.tracker import Trackers, check_start

AHEAD = 4
"""Frames of each lane that are decoded while as many are tracked in."""
DECODERS = 4
"""Threads that decode; the decoders leave Python's lock while they work."""

Finished = tuple[int, Boxes, NDArray[np.float64]]


@dataclass(frozen=True)
class Job:
    """One run of a tracker over a sequence."""

    frames: Frames
    numbers: Sequence[int]
    """Of the frames to visit, in this order; it may run backward. In the first, the target is in ``box``."""
    box: Boxes
    """(4,)"""


def lockstep(trackers: Trackers, jobs: Sequence[Job], lanes: int) -> Iterator[Finished]:
    """Track every job, ``lanes`` of them at a time; a lane that has finished takes the next job.

    Yields:
        Number of the job, its boxes (n, 4), of which the first is the job's own, and the seconds (n,) that
        each frame took: its share of the step, from the decoded frame to the box. In the order in which they
        end.

    Raises:
        MmsslError: fewer than one lane; a job without frames, with a box that nothing can be tracked from, or
            with a frame that cannot be read: names the sequence.
    """
    if lanes < 1:
        raise MmsslError(f"lanes: {lanes}; expected at least 1")
    trackers.keep([])
    waiting = deque(enumerate(jobs))
    running: list[_Lane] = []
    with ThreadPoolExecutor(min(DECODERS, lanes)) as pool:
        try:
            while waiting or running:
                fresh = [
                    _Lane(*waiting.popleft(), pool, trackers.device)
                    for _ in range(min(len(waiting), lanes - len(running)))
                ]
                running += fresh
                if fresh:
                    _start(trackers, fresh)
                ended = [lane for lane in running if lane.ended]
                if ended:
                    trackers.keep([row for row, lane in enumerate(running) if not lane.ended])
                    running = [lane for lane in running if not lane.ended]
                    yield from ((lane.index, np.stack(lane.boxes), np.array(lane.seconds)) for lane in ended)
                else:
                    _advance(trackers, running)
        finally:
            for lane in running:
                lane.coming.cancel()


class _Lane:
    """A job under way. While a few of its frames are used, the next few are decoded."""

    def __init__(self, index: int, job: Job, pool: ThreadPoolExecutor, device: torch.device) -> None:
        if not len(job.numbers):
            raise MmsslError(f"{job.frames.name}: no frames to track in; expected at least one")
        self.index, self.job = index, job
        self.boxes: list[Boxes] = []
        self.seconds: list[float] = []
        self._walk = job.frames.walk(job.numbers)
        self._pool, self._device = pool, device
        self._here: deque[Tensor] = deque()
        self.coming = pool.submit(self._decode)

    def _decode(self) -> list[Tensor]:
        return [frame.to(self._device) for frame in itertools.islice(self._walk, AHEAD)]

    def frame(self) -> Tensor:
        """The next one."""
        if not self._here:
            self._here.extend(self.coming.result())
            self.coming = self._pool.submit(self._decode)
        return self._here.popleft()

    def note(self, box: Boxes, seconds: float) -> None:
        self.boxes.append(box)
        self.seconds.append(seconds)

    @property
    def ended(self) -> bool:
        return len(self.boxes) == len(self.job.numbers)


def _start(trackers: Trackers, lanes: list[_Lane]) -> None:
    frames = [lane.frame() for lane in lanes]
    for frame, lane in zip(frames, lanes, strict=True):
        try:
            check_start(frame, lane.job.box)
        except MmsslError as error:
            raise MmsslError(f"{lane.job.frames.name}: frame {lane.job.numbers[0]}: {error}") from error
    start = time.perf_counter()
    trackers.add(frames, np.stack([lane.job.box for lane in lanes]))
    share = (time.perf_counter() - start) / len(lanes)
    for lane in lanes:
        lane.note(np.array(lane.job.box, dtype=np.float64), share)


def _advance(trackers: Trackers, lanes: list[_Lane]) -> None:
    frames = [lane.frame() for lane in lanes]
    start = time.perf_counter()
    boxes, _ = trackers.update(frames)
    share = (time.perf_counter() - start) / len(lanes)
    for lane, box in zip(lanes, boxes, strict=True):
        lane.note(box, share)
