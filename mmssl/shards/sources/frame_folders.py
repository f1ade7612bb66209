"""Folders of frames with boxes, as tracking benchmarks give them: OTB, UAV123, VOT."""

import io
import math
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import simplejpeg
from PIL import Image
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.encode import jpeg, mjpeg
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, to_json
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.images import EXTENSIONS, ImageOptions, image_member
from mmssl.shards.sources.sequences import assign, by_folder, numbers
from mmssl.shards.writer import RawSample, safe_key


def _all_test() -> dict[str, tuple[str, ...]]:
    return {"test": ("*",)}


class FrameFolders(Source):
    """One sample per sequence: ``video`` (its JPEG frames, unchanged, as MJPEG), ``boxes``, ``meta``."""

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
        frames, size = _frames(tree, folder, names)
        meta: dict[str, Any] = {
            "name": item.path,
            "fps": self.fps,
            "frames": len(frames),
            "width": size[0],
            "height": size[1],
            "first_frame": names[0],
        }
        members = {"video.mkv": mjpeg(frames, self.fps, size)}
        if truths:
            targets = [self._target(tree, f"{item.path}/{truth}", len(frames)) for truth in truths]
            members["boxes.json"] = to_json([list(boxes) for boxes in zip(*targets, strict=True)])
            meta["targets"] = list(truths)
        yield RawSample(item.key, {**members, "meta.json": to_json(meta)})

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


def _frames(tree: Files, folder: str, names: tuple[str, ...]) -> tuple[list[bytes], tuple[int, int]]:
    """JPEG frames of one size; other formats are re-encoded at quality 95."""
    frames = []
    sizes = set()
    for name in names:
        try:
            column, data = image_member(tree.read(f"{folder}/{name}"), ImageOptions())
            if column != "image.jpg":
                data = _as_jpeg(data)
        except BadInput as error:
            raise BadInput(f"frame {name}: {error}") from error
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        sizes.add((width, height))
        frames.append(data)
    if len(sizes) != 1:
        raise BadInput(f"frames of different sizes: {sorted(sizes)}")
    return frames, sizes.pop()


def _as_jpeg(data: bytes) -> bytes:

    return jpeg(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
