"""What lies in a video file: packets, when their frames are shown, and how frames must be turned."""

import io
import struct
from bisect import bisect_right
from operator import itemgetter
from typing import Any

import av
import numpy as np
from av.packet import Packet
from numpy.typing import NDArray

from mmssl.stream.decode import MAX_PIXELS

_UPRIGHT = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The identity, as track headers of MP4 and MOV hold it (ISO/IEC 14496-12, section 8.3.2)."""
_ROLL = (b"\x76\x75\x84", b"\x76\x75\x88")
"""Matroska's element ProjectionPoseRoll with a float of 4 or 8 bytes."""
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""FFmpeg's names of formats."""


class Container:
    """The best video stream of a file, read without decoding; its packets stay in memory.

    Frames are numbered in the order in which they are shown. Those that an edit list hides are not counted.
    Of a truncated file, the frames before the cut are: a packet that is not whole ends the video, as does one
    that cannot be read. So do frames that nothing can decode start it late: those before the first keyframe.

    Raises:
        ValueError: not a video, no video stream, encrypted or unknown codec, no frames, frames of unknown or
            equal time, frames of no size or more than ``MAX_PIXELS``.
    """

    times: NDArray[np.float64]
    """(T,) seconds, ascending, the first at 0."""
    duration: float
    """Seconds, from the first frame's appearance to the last one's end."""
    codec: str
    """FFmpeg's name: h264, hevc, vp9, av1, mjpeg …"""
    indexed: bool
    """Every frame can be found without reading on: MP4, MOV, Matroska and WebM, or keyframes alone."""
    turn: int
    """Degrees clockwise by which frames must be turned to be upright: 0, 90, 180 or 270."""
    height: int
    """Of an upright frame."""
    width: int
    coded: tuple[int, int]
    """Height and width of a frame as it is stored."""

    def __init__(self, data: bytes | memoryview) -> None:
        # The tables of an MP4 say all that is asked for; parsing its pictures too takes a third of opening.
        options = {"fflags": "noparse"} if bytes(data[4:8]) == b"ftyp" else {}
        try:
            self._container = av.open(io.BytesIO(data), mode="r", options=options)
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"not a readable video ({_words(error)})") from error
        try:
            stream: Any = self._container.streams.best("video")
            if stream is None:
                raise ValueError("no video stream")
            self.context: Any = stream.codec_context
            if self.context is None:
                raise ValueError("a codec that FFmpeg does not know, or an encrypted stream")
            self.codec = str(self.context.codec.canonical_name)
            self.coded = (self.context.height, self.context.width)
            self._check_size()
            self.context.thread_count = 1  # workers are many; each decodes for itself
            self._scan(stream)
            self.turn = self._first_turn() if _may_be_turned(data) else 0
            self.height, self.width = self.coded if self.turn % 180 == 0 else self.coded[::-1]
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise ValueError(_words(error)) from error

    def _check_size(self) -> None:
        height, width = self.coded
        if height < 1 or width < 1:
            raise ValueError(f"frames of {width}x{height} pixels: damaged or encrypted")
        if height * width > MAX_PIXELS:
            raise ValueError(f"frames of {width}x{height} pixels; expected at most {MAX_PIXELS}")

    def _scan(self, stream: Any) -> None:
        """Find ``packets``, ``stamps`` and ``keys``; stamps count ``tick`` seconds."""
        self.packets: list[Packet] = []
        """In the order in which they are decoded."""
        shown: list[int] = []
        keys: list[tuple[int, int]] = []
        timed = True
        length = 0
        try:
            for packet in self._container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_corrupt:
                    break
                stamp = packet.pts
                if stamp is None:
                    timed, stamp = False, packet.dts
                if stamp is None:
                    raise ValueError("a packet without a time")
                if packet.is_keyframe:
                    keys.append((stamp, len(self.packets)))
                self.packets.append(packet)
                if not packet.is_discard:
                    shown.append(stamp)
                    length = packet.duration or length
        except (av.EOFError, av.InvalidDataError):
            pass  # cut short; what came before is whole
        if not shown or not keys:
            raise ValueError("no frames that can be decoded")
        # AVI stores no times of showing. FFmpeg works them out for MPEG-4, and counts packets for the others.
        counted = self._container.format.name == "avi" and self.codec != "mpeg4"
        self.ordered = (timed and not counted) or not self.context.has_b_frames
        """Packets tell when their frames are shown; if not, only the order of decoded frames does."""
        if not self.ordered:
            keys = keys[:1]
        elif not timed:
            for packet in self.packets:
                packet.pts = packet.dts
        self.keys = sorted(keys)
        """(stamp, number of the packet) of the keyframes."""
        self.indexed = self._container.format.name in _INDEXED or len(keys) == len(self.packets)
        self.tick = float(stream.time_base)
        stamps = np.array(shown, dtype=np.int64)
        self.stamps = np.sort(stamps[stamps >= self.keys[0][0]])
        """(T,) int64, ascending."""
        if len(self.stamps) == 0:
            raise ValueError("no frames that can be decoded")
        equal = np.flatnonzero(np.diff(self.stamps) == 0)
        if len(equal):
            moment = (self.stamps[equal[0]] - self.stamps[0]) * self.tick
            raise ValueError(
                f"broken timestamps: {len(equal)} frames as early as others, first at {moment:.3f} s"
            )
        self.times = (self.stamps - self.stamps[0]) * self.tick
        rate = stream.average_rate or stream.guessed_rate
        last = length * self.tick or (1 / float(rate) if rate else 0.0)
        self.duration = float(self.times[-1]) + last

    def _first_turn(self) -> int:
        """The container's matrix is not open to us; decoded frames carry it."""
        for packet in [*self.packets[self.keys[0][1] :], None]:
            for frame in self.context.decode(packet):
                self.context.flush_buffers()
                return round(-frame.rotation / 90) * 90 % 360
        raise ValueError("no frames that can be decoded")

    def key_before(self, stamp: int) -> int:
        """Place in ``keys`` of the last keyframe that is shown at or before ``stamp``."""
        return max(0, bisect_right(self.keys, stamp, key=itemgetter(0)) - 1)

    def close(self) -> None:
        self.packets = []
        self._container.close()


def _may_be_turned(data: bytes | memoryview) -> bool:
    """Whether a track header or a Matroska element says that frames are not upright as they are stored.

    Asking a decoded frame instead would cost every video a keyframe.
    """
    if bytes(data[:4]) == b"\x1aE\xdf\xa3":
        return any(roll in bytes(data[: 1 << 16]) for roll in _ROLL)
    index = _mp4_index(data)
    at = index.find(b"tkhd")
    while at >= 0:
        matrix = at + 4 + (52 if index[at + 4 : at + 5] == b"\x01" else 40)
        if index[matrix : matrix + 36] != _UPRIGHT:
            return True
        at = index.find(b"tkhd", at + 4)
    return False


def _mp4_index(data: bytes | memoryview) -> bytes:
    """The content of an MP4's or MOV's box ``moov``; empty where there is none."""
    at = 0
    while at + 16 <= len(data):
        size, name, large = struct.unpack_from(">I4sQ", data, at)
        size = large if size == 1 else size or len(data) - at  # 0: up to the end of the file
        if name == b"moov":
            return bytes(data[at : at + size])
        at += max(size, 8)
    return b""


def _words(error: Exception) -> str:
    """Without the number that FFmpeg's errors start with."""
    return str(getattr(error, "strerror", None) or error)
