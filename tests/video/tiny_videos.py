"""Small videos of every kind that decoders trip over, made with PyAV; each frame tells its own number."""

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

CODECS: dict[str, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "mp4", {"preset": "ultrafast", "bf": "0"}),
    "h264_b": ("libx264", "mp4", {"preset": "medium", "bf": "3", "x264-params": "b-adapt=0"}),
    "h265": ("libx265", "mp4", {"preset": "medium", "x265-params": "log-level=none:bframes=3"}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", "mp4", {"preset": "13", "svtav1-params": "pred-struct=2"}),
    "mjpeg": ("mjpeg", "avi", {}),
    "mpeg4": ("mpeg4", "avi", {"bf": "0"}),
    "mpeg4_b": ("mpeg4", "avi", {"bf": "2"}),
}
"""Encoder, container and options."""


def numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB frames: smooth, moving, and the number in eight black or white fields."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    frames = []
    for i in range(count):
        shift = 2 * np.pi * (columns / width + i / 16)
        grey = 128 + 60 * np.sin(shift) * np.cos(2 * np.pi * rows / height)
        frame = np.stack([grey, np.roll(grey, 5, axis=1), 255 - grey], axis=2)
        for bit in range(8):
            left, right = bit * width // 8, (bit + 1) * width // 8
            frame[: height // 3, left:right] = 235 if i >> bit & 1 else 20
        frames.append(np.ascontiguousarray(frame.clip(0, 255).astype(np.uint8)))
    return frames


def number(frame: np.ndarray) -> int:
    """What an (H, W, 3) frame of ``numbered`` says."""
    height, width = frame.shape[:2]
    middle = frame[height // 12 : height // 4].astype(float).mean(axis=(0, 2))
    return sum(int(middle[int((bit + 0.5) * width / 8)] > 128) << bit for bit in range(8))


def encode(
    frames: Sequence[np.ndarray],
    kind: str = "h264",
    *,
    rate: int = 10,
    gop: int = 8,
    stamps: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
    container: str | None = None,
    options: dict[str, str] | None = None,
    turn: int = 0,
    mux: dict[str, str] | None = None,
    **context: Any,
) -> bytes:
    """A video of these frames; ``stamps`` are their times in milliseconds, regular by default.

    Args:
        turn: degrees that the container says frames must be turned by, counterclockwise.
        mux: options of the container.
        context: attributes of the encoder, for instance ``colorspace``.
    """
    name, extension, own = CODECS[kind]
    # In a real file, since an MP4's index can only be moved to the front of one.
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container or extension, options=mux or {}) as output:
            stream: Any = output.add_stream(name, rate=rate, options={**own, **(options or {})})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if kind == "mjpeg" else pixel_format
            stream.codec_context.gop_size = gop
            if stamps is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
                stream.time_base = Fraction(1, 1000)
            for attribute, value in context.items():
                setattr(stream.codec_context, attribute, value)
            if turn:
                stream.set_display_rotation(turn)
            for i, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                if stamps is not None:
                    frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return file.read()


def audio_only() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=16000, layout="mono")
        for i in range(4):
            samples = np.sin(np.arange(1024, dtype=np.float32) / 10)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.rate, frame.pts = 16000, 1024 * i
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def box(data: bytes, name: bytes) -> int:
    """Where the content of the first MP4 box of this name begins."""
    at = data.find(name)
    assert at >= 0, name
    return at + 4


def with_edit_list(data: bytes, skip: int) -> bytes:
    """The same MP4 with its edit list moved to begin ``skip`` ticks of the media's clock later."""
    at = box(data, b"elst")
    version, count = data[at], struct.unpack(">I", data[at + 4 : at + 8])[0]
    assert (version, count) == (0, 1)
    start = struct.unpack(">i", data[at + 12 : at + 16])[0]
    return data[: at + 12] + struct.pack(">i", start + skip) + data[at + 16 :]


def without_time(data: bytes) -> bytes:
    """The same MP4 with frames that last 0 ticks: all of them begin at once."""
    at = box(data, b"stts")
    count = struct.unpack(">I", data[at + 4 : at + 8])[0]
    entries = b"".join(data[at + 8 + 8 * i : at + 12 + 8 * i] + bytes(4) for i in range(count))
    return data[: at + 8] + entries + data[at + 8 + 8 * count :]


def encrypted(data: bytes) -> bytes:
    """The same MP4 as a protected one calls its codec: nothing says how to decode it."""
    return data.replace(b"avc1", b"encv")


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
