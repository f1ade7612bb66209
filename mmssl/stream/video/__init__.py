"""Videos as frames: decoders behind one interface (``base.VideoReader``)."""

from mmssl.stream.decode import Decoder, EncodedVideo
from mmssl.stream.video import torchcodec
from mmssl.stream.video.base import VideoReader
from mmssl.stream.video.container import Container
from mmssl.stream.video.decord import DecordReader
from mmssl.stream.video.pyav import PyAVReader
from mmssl.stream.video.torchcodec import TorchCodecReader

__all__ = ["Decoder", "VideoReader", "open_video", "usable"]

_FASTER_WITH_TORCHCODEC = ("mjpeg", "hevc")
"""By a tenth to a half in the measurements on one core that the defaults rest on; PyAV leads for H.264."""


def usable(decoder: Decoder) -> str | None:
    """Why this machine cannot use a decoder; None if it can."""
    if decoder == "torchcodec":
        return torchcodec.available()
    if decoder == "decord":
        try:
            import decord  # noqa: F401
        except (ImportError, OSError) as error:
            return f"decord cannot be imported ({error})"
    return None


def open_video(video: EncodedVideo, decoder: Decoder | None = None) -> VideoReader:
    """Open a sample's video.

    Args:
        decoder: by default the one that the sample's stream is configured with. "auto" is torchcodec for
            the codecs that it decodes faster, if it works on this machine, and PyAV for all others.

    Raises:
        ValueError: it cannot be read; says why.
    """
    chosen = decoder or video.decoder
    reason = usable(chosen)
    if reason:
        raise ValueError(reason)
    container = Container(video.data)
    if chosen == "auto":
        faster = container.indexed and container.codec in _FASTER_WITH_TORCHCODEC
        fast = faster and torchcodec.available() is None
        chosen = "torchcodec" if fast else "pyav"
    if chosen == "torchcodec":
        return TorchCodecReader(container, video.data)
    return DecordReader(container, video.data) if chosen == "decord" else PyAVReader(container)
