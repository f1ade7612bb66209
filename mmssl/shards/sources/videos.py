"""From clips of a video to samples: keys of segments, metadata, and what else is told about moments."""

from collections.abc import Callable, Iterator
from typing import Any

from mmssl.modalities import MODALITIES
from mmssl.shards.sources.base import to_json
from mmssl.shards.sources.files import open_files
from mmssl.shards.video import Clip, RawVideo, VideoOptions, convert
from mmssl.shards.video.segments import cut_phases
from mmssl.shards.writer import RawSample

EXTENSIONS = frozenset({*MODALITIES["video"].extensions, "ts", "mts", "wmv", "flv", "3gp", "ogv"})
"""Files that folders are searched for; what is in them decides how they are read."""

Members = dict[str, bytes]


def file_samples(
    root: str, path: str, key: str, options: VideoOptions, meta: dict[str, Any], members: Members
) -> Iterator[RawSample]:
    """The samples of one video file: ``video``, ``meta``, and the members that are the same for all of them.

    Raises:
        BadInput: it is missing or cannot be used.
    """
    raw = RawVideo(open_files(root).read(path), options.encoding.max_side)
    original = {
        "fps": round(float(raw.rate), 6),
        "frames": len(raw.times),
        "width": raw.width,
        "height": raw.height,
        "codec": raw.codec,
    }
    meta = {"source": path, "original": original, **meta}
    yield from clip_samples(key, convert(raw, options), options, meta, lambda number: members)


def clip_samples(
    key: str,
    clips: list[Clip],
    options: VideoOptions,
    meta: dict[str, Any],
    members: Callable[[int], Members],
) -> Iterator[RawSample]:
    """One sample per clip. ``meta`` is of the whole video, and its ``phases`` are cut with the segments;
    ``members`` gives what else the clip of a number stores."""
    for number, clip in enumerate(clips):
        told = {**meta, **clip.meta}
        name = key
        if "phases" in meta:
            told["phases"] = cut_phases(meta["phases"], clip.start, clip.start + clip.meta["duration"])
        if options.segments is not None:
            name = f"{key}-{number:03d}"
            told["segment"] = {"start": clip.start, "of": key}
        stored = {f"video.{clip.extension}": clip.data, "meta.json": to_json(told)}
        yield RawSample(name, stored | clip.members | members(number))


def check_video(data: bytes) -> None:
    """Decode every frame.

    Raises:
        BadInput: it cannot be read, or not all of it.
    """
    for _ in RawVideo(data, max_side=1 << 16).frames():
        pass
