"""Videos through PyAV, which brings its own FFmpeg: the base reader, for every codec and container."""

import io
from collections.abc import Iterator
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.video.base import VideoReader


class PyAVReader(VideoReader):
    """Frames are numbered in the order in which they are shown.

    Opening reads the packets' timestamps without decoding. ``read`` starts at the last keyframe before the
    first wanted frame, decodes on to the last one, and seeks again where a keyframe lies behind a gap.

    Raises:
        ValueError: not a video, no video stream, no frames, or frames of unknown time.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        try:
            self._container = av.open(io.BytesIO(data), mode="r")
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"not a readable video ({error})") from error
        try:
            self._look()
        except (av.FFmpegError, ValueError, IndexError) as error:
            self._container.close()
            raise ValueError(str(error)) from error

    def _look(self) -> None:
        if not self._container.streams.video:
            raise ValueError("no video stream")
        stream = self._container.streams.video[0]
        stream.thread_count = 1  # workers are many; each decodes for itself
        self._stream = stream
        stamps: list[int] = []
        keys: list[int] = []
        last = 0
        for packet in self._container.demux(stream):
            if packet.size == 0:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                raise ValueError("a packet without a timestamp")
            if not packet.is_discard:
                stamps.append(stamp)
                last = packet.duration or last
                if packet.is_keyframe:
                    keys.append(stamp)
        if not stamps or not keys:
            raise ValueError("no frames")
        self._stamps = np.unique(np.array(stamps, dtype=np.int64))
        self._keys = np.unique(np.array(keys, dtype=np.int64))
        self._base = base = float(stream.time_base or 0)
        self.times = (self._stamps - self._stamps[0]) * base
        rate = stream.average_rate or stream.guessed_rate
        step = last * base or (1 / float(rate) if rate else 0.0)
        self.duration = float(self.times[-1]) + step
        self._turn = _rotation(stream)
        self.height, self.width = stream.codec_context.height, stream.codec_context.width
        if self._turn % 180:
            self.height, self.width = self.width, self.height

    def read(self, frames: NDArray[np.int64]) -> Tensor:
        frames = np.asarray(frames, dtype=np.int64)
        if len(frames) and (frames.min() < 0 or frames.max() >= len(self)):
            raise ValueError(f"frame {int(frames.max())}; the video has {len(self)} frames")
        wanted, place = np.unique(frames, return_inverse=True)
        out = np.empty((len(wanted), self.height, self.width, 3), dtype=np.uint8)
        try:
            for row, frame in self._decode(self._stamps[wanted].tolist()):
                out[row] = self._rgb(frame)
        except av.FFmpegError as error:
            raise ValueError(f"does not decode ({error})") from error
        pixels = out if len(frames) == len(wanted) and (place == np.arange(len(place))).all() else out[place]
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _decode(self, stamps: list[int]) -> Iterator[tuple[int, Any]]:
        """(row, frame) for each of the ascending timestamps."""
        row = 0
        while row < len(stamps):
            key = self._key_before(stamps[row])
            self._container.seek(key, stream=self._stream, backward=True, any_frame=False)
            for frame in self._container.decode(self._stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                if stamp is None or stamp < stamps[row]:
                    continue
                if stamp > stamps[row]:
                    raise ValueError(f"frame at {stamps[row] * self._base:.3f} s is missing")
                yield row, frame
                row += 1
                if row == len(stamps) or self._key_before(stamps[row]) > stamp:
                    break
            else:
                if row < len(stamps):
                    moment = stamps[row] * self._base
                    raise ValueError(f"ends before the frame at {moment:.3f} s: truncated?")

    def _key_before(self, stamp: int) -> int:
        at = int(np.searchsorted(self._keys, stamp, side="right")) - 1
        return int(self._keys[max(at, 0)])

    def _rgb(self, frame: Any) -> NDArray[np.uint8]:
        if (
            frame.width != self._stream.codec_context.width
            or frame.height != self._stream.codec_context.height
        ):
            raise ValueError("the size of the frames changes inside the video")
        pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
        if self._turn:
            code = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
            pixels = np.ascontiguousarray(cv2.rotate(pixels, code[self._turn]))
        return pixels

    def close(self) -> None:
        self._container.close()


def _rotation(stream: Any) -> int:
    """Degrees clockwise that frames must be turned by to be shown upright: 0, 90, 180 or 270."""
    return 0
