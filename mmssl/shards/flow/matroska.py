"""The fields of a video as one Matroska file: a packet each, with the time of the frame that it starts from.

Written and read here, because FFmpeg muxes no PNG in Matroska, and copies every packet of a file of which a
clip needs a few. Every player of Matroska can show what is written. IDs are those of RFC 9559.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_TICK = 1000  # nanoseconds that our timestamps count
_EBML, _SEGMENT, _INFO, _SCALE = b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x15I\xa9f", b"*\xd7\xb1"
_CLUSTER, _TIME, _SIMPLE_BLOCK = b"\x1fC\xb6u", b"\xe7", b"\xa3"
_GROUP, _BLOCK = b"\xa0", b"\xa1"
_INSIDE = frozenset({_SEGMENT, _INFO, _CLUSTER, _GROUP})


def flow_mkv(packets: Sequence[bytes], times: Sequence[float], size: tuple[int, int]) -> bytes:
    """JPEG or PNG files of (width, height) ``size``, all of one kind, shown at ``times`` (seconds, to 1 µs).

    Raises:
        ValueError: no packets, not as many times, or times that are negative or do not ascend.
    """
    ticks = [round(time * 1e9 / _TICK) for time in times]
    if not packets or len(packets) != len(ticks):
        raise ValueError(f"{len(packets)} packets at {len(ticks)} times; expected at least one, and as many")
    if ticks[0] < 0 or any(after <= before for before, after in pairwise(ticks)):
        raise ValueError("times of packets; expected them to ascend from 0 or later")
    header = b"".join(
        (
            _element(b"B\x86", 1), _element(b"B\xf7", 1), _element(b"B\xf2", 4), _element(b"B\xf3", 8),
            _element(b"B\x82", b"matroska"), _element(b"B\x87", 4), _element(b"B\x85", 2),
        )
    )  # fmt: skip
    info = _element(_SCALE, _TICK) + _element(b"M\x80", b"mmssl") + _element(b"WA", b"mmssl")
    clusters = b"".join(
        # On track 1, at the cluster's own time, and every field can be decoded by itself.
        _element(_CLUSTER, _element(_TIME, tick) + _element(_SIMPLE_BLOCK, b"\x81\0\0\x80" + data))
        for tick, data in zip(ticks, packets, strict=True)
    )
    segment = _element(_INFO, info) + _track(packets[0], size) + clusters
    return _element(_EBML, header) + _element(_SEGMENT, segment)


def _track(packet: bytes, size: tuple[int, int]) -> bytes:
    """Tracks, with one video. Matroska has no PNG of its own, but takes the codecs of AVI."""
    width, height = size
    codec = _element(b"\x86", b"V_MJPEG")
    if packet.startswith(b"\x89PNG"):
        fields = ((40, 4), (width, 4), (height, 4), (1, 2), (48, 2))
        form = b"".join(value.to_bytes(length, "little") for value, length in fields)
        codec = _element(b"\x86", b"V_MS/VFW/FOURCC") + _element(b"c\xa2", (form + b"MPNG").ljust(40, b"\0"))
    video = _element(b"\xe0", _element(b"\xb0", width) + _element(b"\xba", height))
    # Number, UID, type (video) and no lacing.
    entry = _element(b"\xd7", 1) + _element(b"s\xc5", 1) + _element(b"\x83", 1) + _element(b"\x9c", 0)
    return _element(b"\x16T\xaek", _element(b"\xae", entry + codec + video))


def _element(name: bytes, content: bytes | int) -> bytes:
    """An EBML element (RFC 8794): its ID, its length in 8 bytes, its content."""
    if isinstance(content, int):
        content = content.to_bytes(max(1, (content.bit_length() + 7) // 8), "big")
    return name + (1 << 56 | len(content)).to_bytes(8, "big") + content


def read_packets(data: bytes | memoryview) -> tuple[NDArray[np.float64], list[memoryview]]:
    """(n,) seconds, ascending, and the packets at these times, which are views of ``data``.

    Raises:
        ValueError: not Matroska, cut short, more than one track, packets that share their frame (lacing), no
            packets, or times that do not ascend.
    """
    view = memoryview(data)
    if bytes(view[:4]) != _EBML:
        raise ValueError(f"not a Matroska file (starts with {bytes(view[:8])!r})")
    scale, base = 1_000_000, 0
    ticks: list[int] = []
    packets: list[memoryview] = []
    for name, content in _elements(view):
        if name == _SCALE:
            scale = int.from_bytes(content, "big")
        elif name == _TIME:
            base = int.from_bytes(content, "big")
        elif name in (_SIMPLE_BLOCK, _BLOCK):
            if len(content) < 4 or content[0] != 0x81 or content[3] & 0x06:
                raise ValueError("Matroska with several tracks or with lacing; expected one track of flow")
            ticks.append(base + int.from_bytes(content[1:3], "big", signed=True))
            packets.append(content[4:])
    if not packets:
        raise ValueError("no packets")
    times = np.array(ticks, np.float64) * (scale / 1e9)
    if (np.diff(times) <= 0).any():
        raise ValueError("times of packets; expected them to ascend")
    return times, packets


def _elements(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """(ID, content) of the elements that hold no others that are wanted, those of all levels in a row.

    An ID says by the leading zeros of its first byte how many bytes it has; so does a length, less this mark.
    """
    at = 0
    while at < len(view):
        middle = at + 9 - view[at].bit_length()
        start = middle + 9 - view[middle].bit_length() if middle < len(view) else middle + 1
        if middle > at + 4 or start > middle + 8 or start > len(view):
            raise ValueError(f"damaged or cut short at byte {at}")
        name = bytes(view[at:middle])
        if name in _INSIDE:
            at = start  # whatever its length, which live streams leave open
            continue
        at = start + (int.from_bytes(view[middle:start], "big") & ((1 << 7 * (start - middle)) - 1))
        if at > len(view):
            raise ValueError(f"cut short: {len(view)} bytes of {at}")
        yield name, view[start:at]
