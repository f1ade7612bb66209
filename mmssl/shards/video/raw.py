"""Open raw videos that anyone may have sent: what they hold, frame by frame, or why they cannot be used."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mmssl.shards.bad_input import BadInput

FORMATS = {
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "mkv", "avi": "avi", "mpeg": "mpg",
    "mpegts": None, "asf": None, "flv": None, "ogg": None, "h264": None, "hevc": None,
}  # fmt: skip
"""Containers of videos, by FFmpeg's name: the extension of their copies, or None where shards know none.

The list keeps out still images and text, which FFmpeg plays too, and playlists, which open other files.
"""
_UNTIMED = frozenset({"avi", "h264", "hevc"})
"""They store no presentation times: frames follow each other at the stated rate, in the order of showing."""
LONGEST_GAP = 60
"""Seconds between neighbouring frames beyond which timestamps are taken to be broken."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """A decoded frame, in the order in which frames are shown."""

    number: int
    """Counted from 0."""
    time: Fraction
    """Seconds after the first frame."""
    rgb: Callable[[], Pixels]
    """(H, W, 3) uint8 sRGB as it is shown: rotation applied. Converted only when asked for."""


class RawVideo:
    """The bytes of one video file. Opening reads packets, ``frames`` decodes.

    Raises:
        BadInput: empty, no video container, no video stream, no frames, broken timestamps, frames that are
            too large, or a file that ends before its container says.
    """

    def __init__(self, data: bytes, max_side: int) -> None:
        if not data:
            raise BadInput("empty file")
        self.data = data
        try:
            with self._open() as container:
                self._look(container, max_side)
        except (av.FFmpegError, ValueError, IndexError, OverflowError) as error:
            raise BadInput(f"not a readable video ({_reason(error)})") from error

    def _open(self) -> Any:
        # Nothing but these bytes is ever opened, whatever they refer to.
        guard = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}
        return av.open(io.BytesIO(self.data), mode="r", options=guard)

    def _look(self, container: Any, max_side: int) -> None:
        self.format: str = container.format.name
        if self.format not in FORMATS:
            raise BadInput(f"{self.format} is no video container")
        if not container.streams.video:
            kinds = sorted({stream.type for stream in container.streams})
            raise BadInput(f"no video stream; found {', '.join(kinds) or 'nothing'}")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise BadInput("unknown or encrypted codec")
        self.codec: str = stream.codec_context.codec.canonical_name
        self.width: int = stream.codec_context.width
        """Before rotation."""
        self.height: int = stream.codec_context.height
        if max(self.width, self.height) > max_side:
            size = f"{self.width}x{self.height}"
            raise BadInput(f"frames of {size}; expected sides of at most {max_side} (encoding.max_side)")
        stamps, last, reach = _stamps(container, stream)
        self._packets = len(stamps)
        if not stamps:
            raise BadInput("no frames")
        self._base = stream.time_base or Fraction(1, 1000)
        stated = stream.average_rate or stream.guessed_rate
        self._timed = self.format not in _UNTIMED
        if self._timed:
            self.times = self._check(stamps)
            self._first = min(stamp for stamp in stamps if stamp is not None)
            self.rate = _rate(self.times, stated)
            # Rounded stamps would make an even video a trifle longer than its frames, and a tick too long.
            even = len(self.times) / self.rate
            uneven = self.times[-1] + (last * self._base or 1 / self.rate)
            self.duration: Fraction = uneven if self.varies else even
        else:
            self.rate = _rate([Fraction(0)], stated)
            self.times = [number / self.rate for number in range(len(stamps))]
            self.duration = len(stamps) / self.rate
        whole = (container.duration or 0) / av.time_base
        if reach < min(0.98 * whole, whole - 1.5 / self.rate):  # FLV and ASF do not count the last frame
            raise BadInput(f"ends at {float(reach):.2f} s of {whole:.2f} s: truncated")

    def _check(self, stamps: list[int | None]) -> list[Fraction]:
        """The packets' times in ascending order, from 0."""
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) < len(stamps):
            raise BadInput(f"broken timestamps: {len(stamps) - len(known)} of {len(stamps)} frames have none")
        times = [(stamp - known[0]) * self._base for stamp in known]
        for number, (before, after) in enumerate(pairwise(times), 1):
            if not 0 < after - before <= LONGEST_GAP:
                gap = float(after - before)
                raise BadInput(f"broken timestamps: frame {number} comes {gap:.3f} s after the one before it")
        return times

    @property
    def varies(self) -> bool:
        """Whether frames are unevenly spaced, by more than containers' rounding."""
        gaps = [after - before for before, after in pairwise(self.times)]
        return any(abs(gap * self.rate - 1) > 0.25 for gap in gaps)

    def frames(self) -> Iterator[Shown]:
        """Every frame, once, in the order of their times.

        Raises:
            BadInput: the frames do not decode, change size, go back in time, or are fewer than the packets.
        """
        number = -1
        before = Fraction(-1)
        try:
            with self._open() as container:
                stream = container.streams.video[0]
                stream.thread_count = 1  # building runs in as many processes as there are cores
                for number, frame in enumerate(container.decode(stream)):
                    if (frame.width, frame.height) != (self.width, self.height):
                        size, usual = f"{frame.width}x{frame.height}", f"{self.width}x{self.height}"
                        raise BadInput(f"frame {number} is of {size}, not of {usual} like the others")
                    time = self._time(frame, number)
                    if time <= before:
                        raise BadInput(
                            f"broken timestamps: frame {number} is not later than the one before it"
                        )
                    before = time
                    yield Shown(number, time, partial(_upright, frame))
        except (av.FFmpegError, ValueError) as error:
            raise BadInput(f"frame {number + 1} does not decode ({_reason(error)})") from error
        if number + 1 < 0.9 * self._packets:
            raise BadInput(f"only {number + 1} of {self._packets} frames decode: truncated or encrypted")

    def _time(self, frame: Any, number: int) -> Fraction:
        if not self._timed:
            return number / self.rate
        if frame.pts is None:
            raise BadInput(f"broken timestamps: frame {number} has none")
        return max((frame.pts - self._first) * self._base, Fraction(0))


def _reason(error: Exception) -> str:
    """FFmpeg's words without its number and the name that bytes in memory do not have."""
    return str(getattr(error, "strerror", None) or error)


def _stamps(container: Any, stream: Any) -> tuple[list[int | None], int, Fraction]:
    """Every frame's stamp, the last one's length, and the second at which the last packet of all ends."""
    stamps: list[int | None] = []
    last, reach = 0, Fraction(0)
    latest: int | None = None
    start = Fraction(container.start_time or 0, av.time_base)
    for packet in container.demux():
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0:
            continue
        if stamp is not None and packet.time_base:
            reach = max(reach, (stamp + (packet.duration or 0)) * packet.time_base - start)
        if packet.stream is stream and not packet.is_discard:
            stamps.append(stamp)
            if stamp is not None and (latest is None or stamp >= latest):
                latest, last = stamp, packet.duration or 0
    return stamps, last, reach


def _rate(times: list[Fraction], stated: Fraction | None) -> Fraction:
    """Frames per second: what the container states if the timestamps agree to 1 %, else their mean."""
    if len(times) < 2:
        if not stated:
            raise BadInput("no frame rate")
        return stated
    measured = (len(times) - 1) / times[-1]
    if stated and abs(stated / measured - 1) < 0.01:
        return stated
    return measured.limit_denominator(1001)


def _upright(frame: Any) -> Pixels:
    pixels: Pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counterclockwise, as np.rot90 counts them
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
