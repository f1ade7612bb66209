"""Arrays to the bytes that shards hold; what each encoding decodes to is in ``mmssl.modalities``."""

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
import simplejpeg

from mmssl.shards.flow.jpeg import flow_jpeg as flow_jpeg
from mmssl.shards.flow.matroska import flow_mkv as flow_mkv

FLOW_RANGE = 512
"""KITTI's 16-bit flow holds displacements in (-512, 512) pixels."""


def jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """(H, W, 3) uint8 sRGB to JPEG, without chroma subsampling."""
    data = simplejpeg.encode_jpeg(
        np.ascontiguousarray(rgb), quality=quality, colorspace="RGB", colorsubsampling="444"
    )
    return bytes(data)


def png(pixels: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) RGB, uint8 or uint16, to PNG."""
    stored = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    done, data = cv2.imencode(".png", np.ascontiguousarray(stored))
    if not done:
        raise ValueError(f"no PNG of shape {pixels.shape} and type {pixels.dtype}")
    return data.tobytes()


def depth_png(metres: np.ndarray) -> bytes:
    """(H, W) metres to 16-bit millimetres; 0, NaN, and what is beyond 65.535 m become 0 = missing."""
    millimetres = np.rint(np.nan_to_num(metres.astype(np.float64), nan=0, posinf=0, neginf=0) * 1000)
    millimetres[(millimetres < 0) | (millimetres > 65535)] = 0
    return png(millimetres.astype(np.uint16))


def normals_png(normals: np.ndarray) -> bytes:
    """(H, W, 3) unit vectors in camera axes to 16-bit RGB, (n + 1) / 2; off by less than 2e-5 a component."""
    return png(np.rint((np.clip(normals, -1, 1).astype(np.float64) + 1) / 2 * 65535).astype(np.uint16))


def flow_png(flow: np.ndarray) -> bytes:
    """(H, W, 2) pixels to KITTI's 16-bit PNG: u·64 + 32768, v·64 + 32768, valid; NaN = unknown.

    Exact to 1/128 pixel (Geiger et al., "Are we ready for autonomous driving?", CVPR 2012).
    """
    valid = np.isfinite(flow).all(axis=-1) & (np.abs(np.nan_to_num(flow)) < FLOW_RANGE - 1 / 64).all(axis=-1)
    stored = np.zeros((*flow.shape[:2], 3), np.uint16)
    stored[..., :2] = np.where(
        valid[..., None], np.rint(np.nan_to_num(flow).astype(np.float64) * 64) + 32768, 0
    )
    stored[..., 2] = valid
    return png(stored)


def segmentation_png(ids: np.ndarray) -> bytes:
    """(H, W) uint8 ids to an index image."""
    return png(ids.astype(np.uint8))


def mjpeg(frames: Sequence[bytes], fps: float | Fraction, size: tuple[int, int]) -> bytes:
    """JPEG frames of (width, height) ``size`` as a Matroska video: the very same JPEG bytes, with timestamps.

    The same frames give the same bytes: the muxer's dates and random identifiers are switched off.
    """
    buffer = io.BytesIO()
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(buffer, "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream = container.add_mux_stream("mjpeg", rate=rate, width=size[0], height=size[1])
        stream.time_base = 1 / rate
        for number, data in enumerate(frames):
            packet = av.Packet(data)
            packet.stream = stream
            packet.time_base = 1 / rate
            packet.pts = packet.dts = number
            packet.duration = 1
            packet.is_keyframe = True
            container.mux(packet)
    return buffer.getvalue()


def h264(frames: Iterable[np.ndarray], fps: float, *, crf: int = 23, gop: int = 8) -> bytes:
    """(H, W, 3) uint8 frames of one even size to H.264 in MP4, for decoding at random moments."""
    writer = H264Writer(fps, crf=crf, gop=gop)
    for frame in frames:
        writer.put(frame)
    return writer.finish()


class H264Writer:
    """H.264 in MP4 from frames as they come: only the encoded bytes are held.

    No B-frames, a keyframe every ``gop`` frames and ``fastdecode`` decode several times faster than what
    cameras give. One thread and no dates: the same frames give the same bytes.
    """

    def __init__(self, fps: float | Fraction, *, crf: int = 23, gop: int = 8) -> None:
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1
        self._stream.options = {
            "crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "bf": "0", "g": str(gop),
            "keyint_min": str(gop), "sc_threshold": "0", "flags": "+bitexact",
            "x264-params": "mbtree=0",  # its sums read memory that is not set: one run in 25 gave other bytes
        }  # fmt: skip
        self.frames = 0
        """How many have been put in."""

    def put(self, rgb: np.ndarray) -> None:
        """(H, W, 3) uint8, H and W even, the same for all."""
        height, width = rgb.shape[:2]
        if not self.frames:
            self._stream.width, self._stream.height = width, height
        elif (self._stream.width, self._stream.height) != (width, height):
            first = f"{self._stream.width}x{self._stream.height}"
            raise ValueError(f"frame of {width}x{height}; expected {first} like the first")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def finish(self) -> bytes:
        """The whole file; at least one frame must have been put in."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._buffer.getvalue()
