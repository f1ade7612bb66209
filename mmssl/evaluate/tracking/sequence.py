"""One annotated sequence of a tracking benchmark, whatever layout it came in."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmssl.tracking.boxes import Boxes
from mmssl.tracking.frames import Frames


@dataclass(frozen=True)
class Sequence:
    """Frames and the truth about one target in them."""

    name: str
    """As the benchmark's result files call it: ``Jogging.1``, ``GOT-10k_Val_000001``."""
    frames: Frames
    """Exactly the frames that are evaluated: of David, 300 to 770."""
    truth: Boxes
    """(T, 4) float64, counted from 0 and otherwise as the file has it, zeros and all; NaN rows = no
    annotation. T = len(frames)."""
    polygons: NDArray[np.float64] | None = None
    """(T, 8) corners, counted from 0, where the benchmark gives rotated boxes (VOT); ``truth`` is around
    them."""
    absent: NDArray[np.bool_] | None = None
    """(T,) where the benchmark flags that the target is out of view or fully covered."""
    cover: NDArray[np.int64] | None = None
    """(T,) GOT-10k's visible share, 0 to 8 eighths."""
    attributes: tuple[str, ...] = ()
    """Names of what makes it hard: ``IV``, ``OCC`` …"""
    frame_attributes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Name to (T,) of attributes that hold frame by frame (VOT tags)."""
    anchors: tuple[int, ...] = ()
    """Frames from which VOT's anchor-based experiment starts; signed as its file has them: positive runs
    forward, negative backward. Empty where the benchmark names none."""
    size: tuple[int, int] | None = None
    """Width and height of the frames, where the layout says so without decoding one."""

    def __len__(self) -> int:
        return len(self.frames)
