"""What every video decoder promises: frames by their number, numbers by presentation time."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels; it lies within the frame."""


class VideoReader(ABC):
    """One open video. Opening looks at the container only; ``read`` decodes what it must and no more."""

    times: NDArray[np.float64]
    """(T,) presentation time of every frame in seconds, ascending, the first at 0."""
    duration: float
    """Seconds from the first frame's appearance to the last one's end."""
    height: int
    """Of a frame as it is shown: rotation in the container is applied, odd sizes are kept."""
    width: int

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.times)

    @abstractmethod
    def read(self, frames: NDArray[np.int64], box: Box | None = None) -> Tensor:
        """(n, 3, H, W) uint8 sRGB, a view of (n, H, W, 3) memory: the frames with these numbers.

        In any order and with repetitions; a frame that is asked for twice is decoded once.

        Args:
            box: top, left, height and width of the part to give instead of whole frames: what lies outside
                it need not be held for all frames at once.

        Raises:
            ValueError: a number outside 0..T-1, or a frame that does not decode.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back what the decoder holds."""

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wanted_frames(frames: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], Tensor | slice]:
    """The distinct numbers, ascending, and how to index what was read of them to get ``frames``.

    Raises:
        ValueError: a number outside 0..count - 1.
    """
    frames = np.asarray(frames, dtype=np.int64)
    if len(frames) and (frames.min() < 0 or frames.max() >= count):
        raise ValueError(f"frames {frames.min()} to {frames.max()}; the video has {count}")
    wanted, place = np.unique(frames, return_inverse=True)
    if len(wanted) == len(frames) and (place == np.arange(len(place))).all():
        return wanted, slice(None)
    return wanted, torch.from_numpy(place.reshape(-1))


def check_times(decoder: str, found: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> None:
    """Compare a decoder's own times with the container's, in seconds.

    Raises:
        ValueError: they differ by more than rounding to single precision explains.
    """
    wrong = np.flatnonzero(~np.isclose(found, expected, rtol=1e-5, atol=1e-4))
    if len(wrong):
        first = wrong[0]
        raise ValueError(
            f"{decoder} has a frame at {found[first]:.4f} s; expected at {expected[first]:.4f} s"
        )


def cut(frames: Tensor, box: Box | None) -> Tensor:
    """The box of (n, 3, H, W) frames, without a copy."""
    if box is None:
        return frames
    top, left, height, width = box
    return frames[:, :, top : top + height, left : left + width]
