"""Videos as frames: decoders behind one interface (``base.VideoReader``)."""

from mmssl.stream.decode import EncodedVideo
from mmssl.stream.video.base import VideoReader
from mmssl.stream.video.pyav import PyAVReader

__all__ = ["VideoReader", "open_video"]


def open_video(video: EncodedVideo) -> VideoReader:
    """Open a sample's video.

    Raises:
        ValueError: it cannot be read; says why.
    """
    return PyAVReader(video.data)
