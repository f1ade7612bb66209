"""Folders of frames, with boxes as tracking benchmarks give them (OTB, UAV123, VOT) or without (DAVIS)."""

import io
import math
from collections.abc import Iterator
from fnmatch import fnmatch
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import simplejpeg
from PIL import Image
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.flow.track import FlowTrack
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, to_json
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.images import EXTENSIONS, ImageOptions, image_member
from mmssl.shards.sources.sequences import assign, by_folder, numbers
from mmssl.shards.sources.videos import clip_samples
from mmssl.shards.video import Clip, Encoding, VideoOptions, shown, transcode
from mmssl.shards.video.measure import Measures
from mmssl.shards.video.raw import Pixels
from mmssl.shards.video.transcode import describe
from mmssl.shards.writer import RawSample, safe_key


def _all_test() -> dict[str, tuple[str, ...]]:
    return {"test": ("*",)}


class FrameFolders(Source, VideoOptions):
    """One sample per sequence or segment: ``video``, ``boxes`` of its frames, ``meta``."""

    kind: Literal["frame_folders"] = "frame_folders"
    root: str
    """Folder or zip archive of sequence folders."""
    frames: str = "img"
    """The folder with the frames inside a sequence's folder; ``.`` where they lie directly in it."""
    truth: str = "groundtruth*.txt"
    """Pattern of the files with boxes, one file per target, one line per frame: x, y, width, height, or the
    corners of a polygon (of which the enclosing box is taken)."""
    origin: Literal[0, 1] = 1
    """The coordinate of the first pixel in those files: 1 in OTB and VOT. Shards count from 0."""
    fps: float = Field(default=30, gt=0)
    """Frames per second, which folders of frames do not say."""
    encoding: Encoding = Encoding(mode="copy")
    """How frames are stored; ``copy``, the default, keeps every frame and its JPEG bytes, as MJPEG."""
    splits: dict[str, tuple[str, ...]] = Field(default_factory=_all_test, min_length=1)
    """Split name to patterns of sequence names."""

    def list_items(self) -> Listing:
        folders = by_folder(open_files(self.root).list())
        items = {}
        for folder, files in folders.items():
            if self.frames == ".":
                name = folder
            elif PurePosixPath(folder).name == self.frames:
                name = PurePosixPath(folder).parent.as_posix()
            else:
                continue
            frames = tuple(sorted(file for file in files if file.rpartition(".")[2].lower() in EXTENSIONS))
            if frames:
                beside = folders.get(name, {})
                truths = tuple(sorted(file for file in beside if fnmatch(file, self.truth)))
                size = sum(files[frame] for frame in frames)
                items[name] = Item(safe_key(name), name, size, (folder, frames, truths))
        if not items:
            raise MmsslError(
                f"{self.root}: no sequences; expected folders of the form SEQUENCE/{self.frames}/*.jpg"
            )
        assigned = assign(sorted(items), self.splits, self.root)
        return Listing({split: [items[name] for name in names] for split, names in assigned.items()}, {})

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        folder, names, truths = item.data
        pictures = _Pictures(tree, folder, names)
        rate = Fraction(self.fps).limit_denominator(1001)
        count = len(names)
        meta: dict[str, Any] = {"name": item.path, "first_frame": names[0]}
        targets: list[list[list[float | None]]] = []
        if truths:
            targets = [self._target(tree, f"{item.path}/{truth}", count) for truth in truths]
            meta["targets"] = list(truths)
        if self.encoding.mode == "copy":
            clips = [_copy(pictures, rate, self)]
        else:
            clips = transcode(shown(pictures, rate), rate, count / rate, self)
            meta["original"] = {"fps": self.fps, "frames": count, "codec": "frames"}

        def boxes(number: int) -> dict[str, bytes]:
            if not targets:
                return {}
            clip = clips[number]
            scale = clip.meta["width"] / pictures.size[0], clip.meta["height"] / pictures.size[1]
            chosen = [[_scaled(boxes[n], scale) for boxes in targets] for n in clip.numbers]
            return {"boxes.json": to_json(chosen)}

        yield from clip_samples(item.key, clips, self, meta, boxes)

    def _target(self, tree: Files, path: str, frames: int) -> list[list[float | None]]:
        """(frames, 4) x, y, w, h counted from 0; null where there is no box."""
        try:
            rows = numbers(tree.read_text(path), path)
        except MmsslError as error:
            raise BadInput(str(error)) from error
        if len(rows) > frames:
            raise BadInput(f"{path}: {len(rows)} lines for {frames} frames")
        boxes = [_box(row, self.origin, path) for row in rows]
        return boxes + [[None] * 4 for _ in range(frames - len(rows))]


def _box(row: list[float], origin: int, path: str) -> list[float | None]:
    if len(row) < 4 or (len(row) > 4 and (len(row) < 6 or len(row) % 2)):
        raise BadInput(
            f"{path}: {len(row)} numbers on a line; expected x, y, w, h or the corners of a polygon"
        )
    if not all(math.isfinite(value) for value in row):
        return [None] * 4
    if len(row) == 4:
        x, y, width, height = row
    else:
        x, y = min(row[::2]), min(row[1::2])
        width, height = max(row[::2]) - x, max(row[1::2]) - y
    return [round(value, 4) for value in (x - origin, y - origin, width, height)]


def _scaled(box: list[float | None], scale: tuple[float, float]) -> list[float | None]:
    """In pixels of the stored frames; unchanged where these have the size of the raw ones."""
    if scale == (1, 1):
        return box
    return [
        value if value is None else round(value * factor, 4)
        for value, factor in zip(box, (*scale, *scale), strict=True)
    ]


class _Pictures:
    """The frames of a folder, one after the other, all of one size."""

    def __init__(self, tree: Files, folder: str, names: tuple[str, ...]) -> None:
        self._tree, self._folder, self._names = tree, folder, names
        self.size = (0, 0)
        """(width, height), known with the first frame."""

    def jpegs(self) -> Iterator[bytes]:
        """JPEG bytes as they are; other formats are re-encoded at quality 95."""
        for number, name in enumerate(self._names):
            try:
                column, data = image_member(self._tree.read(f"{self._folder}/{name}"), ImageOptions())
                if column != "image.jpg":
                    data = _as_jpeg(data)
            except BadInput as error:
                raise BadInput(f"frame {name}: {error}") from error
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            if number == 0:
                self.size = (width, height)
            elif self.size != (width, height):
                raise BadInput(
                    f"frames of different sizes: {name} is {width}x{height}, the first one "
                    f"{self.size[0]}x{self.size[1]}"
                )
            yield data

    def __iter__(self) -> Iterator[Pixels]:
        """(H, W, 3) uint8."""
        for data in self.jpegs():
            yield simplejpeg.decode_jpeg(data)


def _copy(pictures: _Pictures, rate: Fraction, options: VideoOptions) -> Clip:
    """All frames, their JPEG bytes unchanged."""
    frames = []
    measures = Measures()
    flow = None if options.flow is None else FlowTrack(options.flow)
    for data in pictures.jpegs():
        frames.append(data)
        pixels = simplejpeg.decode_jpeg(data)
        measures.put(pixels)
        if flow is not None:
            flow.put(pixels)
    times = [float(number / rate) for number in range(len(frames))]
    cuts = measures.cuts()
    shots = [times[cut] for cut in cuts]
    meta = describe(rate, len(frames) / rate, pictures.size, "mjpeg", measures.motion(times), shots)
    members, told = ({}, {}) if flow is None else flow.members(0, times, cuts)
    data = encode.mjpeg(frames, rate, pictures.size)
    return Clip("mkv", data, list(range(len(frames))), 0.0, meta | told, members)


def _as_jpeg(data: bytes) -> bytes:
    return encode.jpeg(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
