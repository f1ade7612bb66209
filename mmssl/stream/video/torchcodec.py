"""Videos through torchcodec, where FFmpeg's shared libraries are installed on the system."""

import io
from functools import cache

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.stream.video.base import Box, VideoReader, check_times, cut, wanted_frames
from mmssl.stream.video.container import Container


@cache
def available() -> str | None:
    """Why torchcodec does not work on this machine; None where it does. Tried once a process."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(16, 16, "yuvj420p")))
        container.mux(stream.encode())
    try:
        from torchcodec.decoders import VideoDecoder

        VideoDecoder(file.getvalue()).get_frames_at([0, 1])
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        return (
            f"{reason}; it needs FFmpeg's shared libraries on the system, and its own version for each torch"
        )
    return None


class TorchCodecReader(VideoReader):
    """Numbers and times are the container's; that every frame has its time is checked after decoding.

    torchcodec turns frames upright itself, and converts colours with swscale, as the base reader does.

    Raises:
        ValueError: torchcodec finds other frames in the file than the base reader, or none.
    """

    def __init__(self, container: Container, data: bytes | memoryview) -> None:
        from torchcodec.decoders import VideoDecoder

        self.times, self.duration = container.times, container.duration
        self.height, self.width = container.height, container.width
        self._stamps, self._tick = container.stamps, container.tick
        try:
            self._decoder = VideoDecoder(bytes(data), num_ffmpeg_threads=1, device="cpu")
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"torchcodec: {_first_line(error)}") from error
        finally:
            container.close()

    def read(self, frames: NDArray[np.int64], box: Box | None = None) -> Tensor:
        wanted, place = wanted_frames(frames, len(self))
        if len(wanted) == 0:
            return cut(torch.empty((0, 3, self.height, self.width), dtype=torch.uint8), box)
        try:
            batch = self._decoder.get_frames_at(wanted.tolist())
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"torchcodec: {_first_line(error)}") from error
        check_times("torchcodec", batch.pts_seconds.numpy(), self._stamps[wanted] * self._tick)
        return cut(batch.data, box)[place]

    def close(self) -> None:
        del self._decoder


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
