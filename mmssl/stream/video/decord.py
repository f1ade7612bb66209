"""Videos through decord, for the codecs that it decodes correctly."""

import io
import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.video.base import Box, VideoReader, check_times, cut, wanted_frames
from mmssl.stream.video.container import Container

CODECS = ("h264", "vp9", "mjpeg")
"""decord 0.6 brings FFmpeg 4: it gives wrong frames for H.265 without a word, and knows no AV1."""


class DecordReader(VideoReader):
    """Numbers and times are the container's; that decord's agree is checked.

    Raises:
        ValueError: another codec than ``CODECS``, a container in which decord misses its aim, frames that
            must be turned or that an edit list hides, or decord finds other frames than the base reader.
    """

    def __init__(self, container: Container, data: bytes | memoryview) -> None:
        self.times, self.duration = container.times, container.duration
        self.height, self.width = container.height, container.width
        codec, turn, indexed = container.codec, container.turn, container.indexed
        container.close()
        if codec not in CODECS:
            raise ValueError(f"codec {codec}; decord is used for {', '.join(CODECS)} only")
        if not indexed:
            raise ValueError(
                "a container without an index; decord is used for MP4, MOV, Matroska and WebM only"
            )
        if turn:
            raise ValueError(f"frames to be turned by {turn} degrees; decord is used for upright ones only")
        import decord  # after torch: the other way round, the first use of CUDA crashes

        try:
            self._file = io.BytesIO(data)
            self._reader = decord.VideoReader(self._file, num_threads=1)
        except (decord.DECORDError, RuntimeError) as error:
            raise ValueError(f"decord: {_first_line(error)}") from error
        if len(self._reader) != len(self.times):
            raise ValueError(f"decord finds {len(self._reader)} frames; there are {len(self.times)}")
        starts = self._reader.get_frame_timestamp(range(len(self.times)))[:, 0]
        check_times("decord", starts - starts[0], self.times)

    def read(self, frames: NDArray[np.int64], box: Box | None = None) -> Tensor:
        import decord

        wanted, place = wanted_frames(frames, len(self))
        if len(wanted) == 0:
            return cut(torch.empty((0, 3, self.height, self.width), dtype=torch.uint8), box)
        try:
            pixels = self._reader.get_batch(wanted).asnumpy()
        except (decord.DECORDError, RuntimeError) as error:
            raise ValueError(f"decord: {_first_line(error)}") from error
        return cut(torch.from_numpy(pixels).permute(0, 3, 1, 2), box)[place]

    def close(self) -> None:
        self._reader = None
        self._file.close()


def _first_line(error: Exception) -> str:
    """Without the time and the place in decord's source that its messages begin with."""
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return re.sub(r"^\[.*?\] \S+ ", "", line)
