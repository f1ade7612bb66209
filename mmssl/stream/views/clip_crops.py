"""Several fixed crops of every clip: what tests of action recognition average over."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.stream.clips.base import Sampler
from mmssl.stream.video import VideoReader
from mmssl.stream.views.clip import ClipView
from mmssl.stream.views.crops import crop_resize
from mmssl.stream.views.draws import Draws

Crops = Literal[1, 3, 10]
_CORNER = 7 / 8
"""Side of a corner crop over the short side of the frame: 224 of 256 pixels."""


class CropsView(ClipView):
    """``frames`` (B, crops · T, 3, size, size): the T frames of the first crop, then those of the second, …

    Args:
        crops: 1 is the largest square in the centre. 3 are the largest squares at both ends and in the middle
            of the longer side (Feichtenhofer et al., "SlowFast", ICCV 2019, section 4); they are one and the
            same where frames are square. 10 are the four corners and the centre at 7/8 of the short side,
            and their mirror images (Krizhevsky et al., NeurIPS 2012, section 4.1), in which left is right:
            they do not suit labels that know directions.

    Raises:
        MmsslError: another number of crops.
    """

    def __init__(
        self,
        sampler: Sampler,
        size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        crops: int,
        field: str = "video",
    ) -> None:
        super().__init__(sampler, size, mean, std, field=field)
        if crops not in (1, 3, 10):
            raise MmsslError(f"crops: expected 1, 3 or 10, found {crops}")
        self.crops = crops

    def _cut(self, video: VideoReader, numbers: NDArray[np.int64], draws: Draws) -> Tensor:
        """(crops · T, 3, size, size) uint8; every frame is decoded once."""
        boxes, flips = spatial_crops(video.height, video.width, self.crops)
        frames, still = list(video.read(numbers)), (len(numbers), 1)
        cut = crop_resize(
            frames, np.tile(boxes[None], (*still, 1)), self.size, np.tile(flips[None], still), "bicubic"
        )
        return cut.transpose(0, 1).flatten(0, 1)


def spatial_crops(height: int, width: int, crops: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (crops, 4) int64 top, left, height, width, and (crops,) whether each is mirrored."""
    short = min(height, width)
    side = short if crops < 10 else max(1, round(short * _CORNER))
    down, right = height - side, width - side
    centre = (down // 2, right // 2)
    if crops == 1:
        places = [centre]
    elif crops == 3:
        places = [(0, 0), centre, (down, right)]
    else:
        places = 2 * [(0, 0), (0, right), (down, 0), (down, right), centre]
    boxes = np.array([(top, left, side, side) for top, left in places], dtype=np.int64)
    return boxes, np.arange(crops) >= (5 if crops == 10 else crops)
