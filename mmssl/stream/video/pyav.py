"""Videos through PyAV, which brings its own FFmpeg: the base reader, for every codec and container."""

import math
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.video.base import Box, VideoReader, wanted_frames
from mmssl.stream.video.container import Container

_RGB: dict[str, Any] = {"format": "rgb24", "interpolation": Interpolation.BICUBIC.value, "threads": 1}


class PyAVReader(VideoReader):
    """Decodes from the last keyframe before a wanted frame on, and jumps where a keyframe lies behind a gap.

    A read that starts where the last one ended, or a little later, goes on from there.

    FFmpeg's swscale makes RGB of the stored colours, with the matrix and range that the stream names (BT.601
    and limited where it names none): 8-bit frames of even height are those of torchcodec and decord, bit for
    bit. Rows of odd height are interpolated, as in torchcodec and within 2 grey levels of decord on
    average; frames of 10 bits are within 1 of torchcodec's.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self.times, self.duration = container.times, container.duration
        self.height, self.width = container.height, container.width
        self.decoded = 0
        """How many frames were decoded so far."""
        self._to_rgb = VideoReformatter()
        self._stream: Iterator[tuple[int, Any]] | None = None
        self._reached = -1  # number of the last frame that the stream gave

    def read(self, frames: NDArray[np.int64], box: Box | None = None) -> Tensor:
        wanted, place = wanted_frames(frames, len(self))
        top, left, height, width = box or (0, 0, self.height, self.width)
        out = np.empty((len(wanted), height, width, 3), dtype=np.uint8)
        try:
            for row, frame in self._decode(wanted):
                out[row] = self._upright_rgb(frame)[top : top + height, left : left + width]
        except av.FFmpegError as error:
            raise ValueError(f"does not decode ({error.strerror})") from error
        return torch.from_numpy(out).permute(0, 3, 1, 2)[place]

    def _decode(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """(row, frame) for each of the ascending frame numbers."""
        stamps = self._container.stamps[wanted].tolist()
        row, key = 0, -1
        while row < len(stamps):
            before, key = row, self._container.key_before(stamps[row]) if key != 0 else 0
            going_on = self._stream is not None and self._near(wanted[row], key)
            if self._stream is None or not going_on:
                self._stream = self._frames_from(key)
            for stamp, frame in self._stream:
                self._reached = int(self._container.stamps.searchsorted(stamp, side="right")) - 1
                if stamp < stamps[row]:
                    continue
                if stamp > stamps[row]:
                    break
                if frame.is_corrupt:
                    raise ValueError(f"the frame at {self.times[wanted[row]]:.3f} s is damaged")
                yield row, frame
                row += 1
                if row == len(stamps) or self._worth_jumping(wanted[row - 1], wanted[row]):
                    break
            if row == before:
                self._stream = None
                if going_on:
                    key = -1
                elif key == 0:
                    raise ValueError(f"the frame at {self.times[wanted[row]]:.3f} s is missing")
                else:
                    key = 0  # not every keyframe is one at which decoding can begin; the first is
            else:
                key = -1

    def _near(self, there: int, key: int) -> bool:
        """Whether the open stream comes to a frame sooner than a new one from the keyframe before it."""
        if not 0 <= self._reached < there:
            return False
        stamp = self._container.keys[key][0]
        return stamp <= self._container.stamps[self._reached] or not self._worth_jumping(self._reached, there)

    def _worth_jumping(self, here: int, there: int) -> bool:
        """Whether frames between two wanted ones can be left out; a decoder runs ahead where it reorders."""
        container = self._container
        stamp, _ = container.keys[container.key_before(int(container.stamps[there]))]
        skipped = int(container.stamps.searchsorted(stamp)) - here - 1
        return skipped > container.context.has_b_frames

    def _frames_from(self, key: int) -> Iterator[tuple[int, Any]]:
        """(stamp, frame) in the order in which they are shown, from a keyframe to the end."""
        container = self._container
        container.context.flush_buffers()
        start = container.keys[key][1]
        number, last = 0, -math.inf
        for packet in (*container.packets[start:], None):
            for frame in container.context.decode(packet):
                self.decoded += 1
                if container.ordered:
                    stamp = frame.pts
                    if stamp is None or stamp <= last:
                        raise ValueError("broken timestamps: not in the order in which frames are shown")
                    last = stamp
                    yield stamp, frame
                elif number < len(self):
                    yield int(container.stamps[number]), frame
                number += 1

    def _upright_rgb(self, frame: Any) -> NDArray[np.uint8]:
        """(H, W, 3), as it is shown; a view of memory that the next frame may be written to."""
        height, width = self._container.coded
        if (frame.height, frame.width) != (height, width):
            raise ValueError("the size of the frames changes inside the video")
        plane: Any = self._to_rgb.reformat(frame, **_RGB).planes[0]
        lines = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
        pixels = lines[:height, : 3 * width].reshape(height, width, 3)
        turn = self._container.turn
        return np.rot90(pixels, -turn // 90) if turn else pixels

    def close(self) -> None:
        self._stream = None
        self._container.close()
