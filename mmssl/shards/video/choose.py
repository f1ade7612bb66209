"""Frames at an even rate from frames at any times."""

from collections.abc import Iterable, Iterator
from fractions import Fraction

from mmssl.shards.video.raw import Shown


def choose(
    frames: Iterable[Shown], rate: Fraction, end: Fraction, start: Fraction = Fraction(0)
) -> Iterator[Shown]:
    """The frame nearest in time to each of start, start + 1/rate, … < end; of two equally near, the earlier.

    ``frames`` ascend in time and are gone through once, two of them held at a time. Where the source has a
    gap longer than 1/rate, a frame comes repeatedly; where it is faster, frames are left out.
    """
    step = 1 / rate
    wanted = start
    held: Shown | None = None
    for frame in frames:
        if held is not None:
            half = (held.time + frame.time) / 2
            while wanted < end and wanted <= half:
                yield held
                wanted += step
        held = frame
        if wanted >= end:
            return
    while held is not None and wanted < end:
        yield held
        wanted += step
