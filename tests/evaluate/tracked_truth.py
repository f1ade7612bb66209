"""Annotated sequences without frames: protocols look at boxes, and at most ask for the size of the image."""

from typing import Any

import numpy as np
from torch import Tensor

from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.tracking.frames import Frames

NAN = [float("nan")] * 4


class Unseen(Frames):
    """So many frames, none of which may be looked at."""

    def __init__(self, length: int, name: str) -> None:
        self.length, self.name = length, name

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Tensor:
        raise AssertionError("a protocol decoded a frame")


def annotated(truth: Any, name: str = "ball", **more: Any) -> Sequence:
    """A sequence of that truth (T, 4)."""
    boxes = np.array(truth, dtype=float).reshape(-1, 4)
    return Sequence(name, Unseen(len(boxes), name), boxes, **more)
