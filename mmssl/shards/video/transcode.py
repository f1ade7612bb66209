"""One pass over a video: choose frames, measure them, encode them into one clip or into segments."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import cv2
import numpy as np

from mmssl.shards import encode
from mmssl.shards.bad_input import BadInput
from mmssl.shards.flow.track import FlowTrack
from mmssl.shards.video.choose import choose
from mmssl.shards.video.measure import Measures
from mmssl.shards.video.options import Encoding, VideoOptions
from mmssl.shards.video.raw import FORMATS, Pixels, RawVideo, Shown
from mmssl.shards.video.segments import Plan


@dataclass(frozen=True)
class Clip:
    """What one sample stores of a video."""

    extension: str
    """Of the video field: mp4, mkv …"""
    data: bytes
    numbers: list[int]
    """Which of the source's frames these are, counted from 0; one may come twice."""
    start: float
    """Seconds from the video's first frame to the clip's."""
    meta: dict[str, Any]
    """fps, frames, duration, width, height, codec, motion, cuts; timestamps where the rate varies; flow."""
    members: dict[str, bytes] = field(default_factory=dict)
    """What else was made of its frames: ``flow.mkv``, ``flow_backward.mkv``."""


def convert(raw: RawVideo, options: VideoOptions) -> list[Clip]:
    """A video file as the options want it.

    Raises:
        BadInput: it does not decode, or cannot be copied.
    """
    if options.encoding.mode == "copy":
        return [_copy(raw, options)]
    return transcode(raw.frames(), raw.rate, raw.duration, options)


def transcode(
    frames: Iterable[Shown],
    rate: Fraction,
    end: Fraction,
    options: VideoOptions,
    start: Fraction = Fraction(0),
) -> list[Clip]:
    """Frames shown from ``start`` to ``end`` (seconds of the source), ``rate`` a second or slower, encoded.

    Raises:
        BadInput: there are none, or the frames raise it.
    """
    rate = min(rate, Fraction(options.encoding.fps).limit_denominator(1001))
    plan = Plan(options.segments, rate)
    measures = Measures()
    flow = None if options.flow is None else FlowTrack(options.flow)
    numbers: list[int] = []
    segments = _SegmentWriter(options.encoding, plan, rate)
    size = (0, 0)
    last: tuple[int, Pixels] | None = None
    for frame in choose(frames, rate, end, start):
        if last is None or last[0] != frame.number:
            last = frame.number, _fit(frame.rgb(), options.encoding.short_side)
        pixels = last[1]
        size = pixels.shape[1], pixels.shape[0]
        measures.put(pixels)
        if flow is not None:
            flow.put(pixels)
        numbers.append(frame.number)
        segments.put(pixels)
    if not numbers:
        raise BadInput("no frames")
    times = [float(at / rate) for at in range(len(numbers))]
    motion, cuts = measures.motion(times), measures.cuts()
    extension, codec = ("mp4", "h264") if options.encoding.mode == "h264" else ("mkv", "mjpeg")
    clips = []
    for segment, data in segments.finish().items():
        first = plan.first(segment)
        count = min(plan.length or len(numbers), len(numbers) - first)
        inside = [times[cut - first] for cut in cuts if first < cut < first + count]
        meta = describe(rate, count / rate, size, codec, motion[first : first + count], inside)
        origin = round(float(start + first / rate), 6)
        members, told = ({}, {}) if flow is None else flow.members(first, times[:count], cuts)
        clips.append(Clip(extension, data, numbers[first : first + count], origin, meta | told, members))
    return clips


def _copy(raw: RawVideo, options: VideoOptions) -> Clip:
    extension = FORMATS[raw.format]
    if extension is None:
        raise BadInput(f"a copy of {raw.format} has no place in shards; expected encoding.mode h264 or jpeg")
    measures = Measures()
    flow = None if options.flow is None else FlowTrack(options.flow)
    times: list[float] = []
    size = (0, 0)
    for frame in raw.frames():
        pixels = frame.rgb()
        size = pixels.shape[1], pixels.shape[0]
        measures.put(pixels)
        if flow is not None:
            flow.put(pixels)
        times.append(float(frame.time))
    cuts = measures.cuts()
    shots = [times[cut] for cut in cuts]
    meta = describe(raw.rate, raw.duration, size, raw.codec, measures.motion(times), shots)
    if raw.varies:
        meta["timestamps"] = [round(time, 6) for time in times]
    members, told = ({}, {}) if flow is None else flow.members(0, times, cuts)
    return Clip(extension, raw.data, list(range(len(times))), 0.0, meta | told, members)


def describe(
    rate: Fraction,
    duration: Fraction,
    size: tuple[int, int],
    codec: str,
    motion: list[float],
    cuts: list[float],
) -> dict[str, Any]:
    """``meta`` of a clip of (width, height) ``size``, a ``motion`` per frame and ``cuts`` in seconds."""
    return {
        "fps": round(float(rate), 6),
        "frames": len(motion),
        "duration": round(float(duration), 6),
        "width": size[0],
        "height": size[1],
        "codec": codec,
        "motion": motion,
        "cuts": [round(cut, 6) for cut in cuts],
    }


def _fit(rgb: Pixels, short_side: int) -> Pixels:
    """Reduced to the short side where it is longer; even sizes, which yuv420p needs; at least 16 x 16."""
    height, width = rgb.shape[:2]
    scale = min(1.0, short_side / min(height, width))
    size = tuple(max(16, 2 * round(side * scale / 2)) for side in (width, height))
    if size == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


class _SegmentWriter:
    """Frames into segments, of which several are open where they overlap; only encoded bytes are held."""

    def __init__(self, encoding: Encoding, plan: Plan, rate: Fraction) -> None:
        self._encoding, self._plan, self._rate = encoding, plan, rate
        self._open: dict[int, encode.H264Writer | _Jpegs] = {}
        self._whole: dict[int, bytes] = {}
        self._frames = 0

    def put(self, rgb: Pixels) -> None:
        """The next frame."""
        begun = self._plan.begins(self._frames)
        if begun is not None:
            self._open[begun] = _writer(self._encoding, self._rate)
        for writer in self._open.values():
            writer.put(rgb)
        full = self._plan.last_ends(self._frames)
        if full is not None:
            self._whole[full] = self._open.pop(full).finish()
        self._frames += 1

    def finish(self) -> dict[int, bytes]:
        """Segment number to its file, in order."""
        for segment, writer in self._open.items():
            if self._plan.is_new(segment, writer.frames):
                self._whole[segment] = writer.finish()
        return self._whole


class _Jpegs:
    """JPEG frames in Matroska."""

    def __init__(self, rate: Fraction, quality: int) -> None:
        self._rate, self._quality = rate, quality
        self._frames: list[bytes] = []
        self._size = (0, 0)

    @property
    def frames(self) -> int:
        return len(self._frames)

    def put(self, rgb: Pixels) -> None:
        self._size = rgb.shape[1], rgb.shape[0]
        self._frames.append(encode.jpeg(rgb, self._quality))

    def finish(self) -> bytes:
        return encode.mjpeg(self._frames, self._rate, self._size)


def _writer(encoding: Encoding, rate: Fraction) -> encode.H264Writer | _Jpegs:
    if encoding.mode == "h264":
        return encode.H264Writer(rate, crf=encoding.crf, gop=encoding.gop)
    return _Jpegs(rate, encoding.quality)


def shown(pictures: Iterable[Pixels], rate: Fraction) -> Iterator[Shown]:
    """Frames that lie at hand as pictures, ``rate`` a second."""
    for number, rgb in enumerate(pictures):
        yield Shown(number, number / rate, partial(np.asarray, rgb))
