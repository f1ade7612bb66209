"""What every video decoder promises: frames by their number, numbers by presentation time."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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
    def read(self, frames: NDArray[np.int64]) -> Tensor:
        """(n, 3, H, W) uint8 sRGB, a view of (n, H, W, 3) memory: the frames with these numbers.

        In any order and with repetitions; a frame that is asked for twice is decoded once.

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
