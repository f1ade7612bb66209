"""What a tracker found, drawn on the frames: a film and a contact sheet."""

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mmssl.shards.encode import H264Writer, png
from mmssl.tracking.boxes import Boxes

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

_COLOUR, _SHADE, _PAPER = (255, 176, 0), (0, 0, 0), 255
_COLUMNS, _WIDTH, _GAP = 5, 256, 4


def drawn(frame: Tensor, box: Boxes, words: str) -> Picture:
    """A copy of ``frame`` (3, H, W) uint8 with ``box`` (4,) and, in a corner, ``words``."""
    picture = np.array(frame.permute(1, 2, 0).cpu().numpy(), order="C")
    thick = max(2, round(min(picture.shape[:2]) / 180))
    # Eighths of a pixel; a box's edges lie half a pixel outside the centres of its first and last pixels.
    corners = np.concatenate([box[:2], box[:2] + box[2:]]) - 0.5
    left, top, right, bottom = np.clip(np.rint(corners * 8), -(2**20), 2**20).astype(int).tolist()
    size = min(picture.shape[:2]) / 400
    for colour, width in ((_SHADE, 2 * thick), (_COLOUR, thick)):
        cv2.rectangle(picture, (left, top), (right, bottom), colour, width, cv2.LINE_AA, shift=3)
        place = (4, 6 + round(20 * size))
        cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
    return picture


class Film:
    """H.264 in MP4 of pictures as they come; all are brought to the size of the first, made even."""

    def __init__(self, rate: float) -> None:
        self._writer = H264Writer(rate, gop=48)
        self._size: tuple[int, int] | None = None

    def put(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        if self._size is None:
            self._size = (width + width % 2, height + height % 2)
        if (width, height) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        self._writer.put(picture)

    def finish(self) -> bytes:
        """The whole file; at least one picture must have been put in."""
        return self._writer.finish()


class Sheet:
    """A contact sheet of some 20 pictures, evenly spread over however many come.

    Every ``step``-th is kept; when they are too many, every other one is dropped and the step doubles.
    """

    def __init__(self, most: int = 25) -> None:
        self.most, self.step = most, 1
        self._seen = 0
        self._kept: list[Picture] = []

    def put(self, picture: Picture) -> None:
        if self._seen % self.step == 0:
            height, width = picture.shape[:2]
            size = (_WIDTH, max(1, round(height * _WIDTH / width)))
            self._kept.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))  # type: ignore[arg-type]
        self._seen += 1
        if len(self._kept) > self.most:
            self._kept = self._kept[::2]
            self.step *= 2

    def finish(self) -> bytes:
        """PNG, row by row; at least one picture must have been put in."""
        columns = min(_COLUMNS, len(self._kept))
        rows = -(-len(self._kept) // columns)
        high, wide = max(len(picture) for picture in self._kept) + _GAP, _WIDTH + _GAP
        page = np.full((rows * high + _GAP, columns * wide + _GAP, 3), _PAPER, np.uint8)
        for i, picture in enumerate(self._kept):
            top, left = _GAP + i // columns * high, _GAP + i % columns * wide
            page[top : top + len(picture), left : left + _WIDTH] = picture
        return png(page)
