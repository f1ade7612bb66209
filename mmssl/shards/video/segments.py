"""Where long videos are cut, and what that does to everything that is told about their moments."""

from fractions import Fraction
from typing import Any

from mmssl.shards.bad_input import BadInput
from mmssl.shards.video.options import Segments


class Plan:
    """Segments in frames at one rate: segment k is the frames [k·step, k·step + length)."""

    def __init__(self, segments: Segments | None, rate: Fraction) -> None:
        self.length = max(1, round(segments.seconds * rate)) if segments else None
        """Frames of a full segment; None = one segment without end."""
        overlap = min(round(segments.overlap * rate), (self.length or 1) - 1) if segments else 0
        self.step = (self.length or 1) - overlap
        self.overlap = overlap

    def first(self, segment: int) -> int:
        """Number of a segment's first frame."""
        return segment * self.step

    def last_ends(self, frame: int) -> int | None:
        """The segment that is complete with this frame, if one is."""
        if self.length is None or frame + 1 < self.length or (frame + 1 - self.length) % self.step:
            return None
        return (frame + 1 - self.length) // self.step

    def begins(self, frame: int) -> int | None:
        """The segment that begins with this frame, if one does."""
        if self.length is None:
            return 0 if frame == 0 else None
        return None if frame % self.step else frame // self.step

    def is_new(self, segment: int, frames: int) -> bool:
        """Whether an unfinished segment of a video's end has frames that the one before it lacks."""
        return segment == 0 or frames > self.overlap


def cut_phases(phases: Any, start: float, end: float) -> list[dict[str, Any]]:
    """``[{"start": s, "end": s, "name": …}]`` as seen from [start, end): clipped, and counted from ``start``.

    Raises:
        BadInput: not a list of such entries.
    """
    cut = []
    try:
        for phase in phases:
            begins, ends = float(phase["start"]), float(phase["end"])
            if begins > ends:
                raise BadInput(f"phases: {phase!r} ends before it begins")
            if begins < end and ends > start:
                begins, ends = max(begins, start) - start, min(ends, end) - start
                cut.append({**phase, "start": round(begins, 6), "end": round(ends, 6)})
    except (TypeError, KeyError, ValueError) as error:
        raise BadInput(f"phases: expected a list of {{start, end, name}}, found {phases!r:.80}") from error
    return cut
