"""RGB-D frame folders: 7-Scenes (and others of its form), and TUM RGB-D."""

import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.encode import png
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, to_json
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.images import ImageOptions, image_member
from mmssl.shards.sources.sequences import assign, by_folder, numbers
from mmssl.shards.sources.tum import Frame, read_sequence
from mmssl.shards.writer import RawSample, safe_key

INVALID = 65535
"""What 7-Scenes writes where the sensor saw nothing; TUM and others write 0."""


def _all_train() -> dict[str, tuple[str, ...]]:
    return {"train": ("*",)}


class RGBD(Source):
    """One sample per frame: ``image``, ``depth`` (16-bit millimetres, 0 = missing), ``meta``.

    ``meta`` holds sequence, frame, timestamp in seconds, intrinsics (3×3, pixels) and pose (4×4, camera to
    world). A folder is a sequence in the manner of TUM if it has an ``rgb.txt``, in that of 7-Scenes if it
    has ``*.color.*`` files.
    """

    kind: Literal["rgbd"] = "rgbd"
    root: str
    """A sequence's folder, a folder of sequences, or a zip archive of them."""
    depth_scale: float = Field(default=1000, gt=0)
    """Stored depth units per metre: 1000 in 7-Scenes, 5000 in TUM RGB-D."""
    fps: float = Field(default=30, gt=0)
    """Turns frame numbers into timestamps where there are none (7-Scenes)."""
    max_gap: float = Field(default=0.02, gt=0)
    """Seconds by which an image, its depth and its pose may be apart (TUM)."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels, where no camera-intrinsics.txt says so."""
    splits: dict[str, tuple[str, ...]] = Field(default_factory=_all_train, min_length=1)
    """Split name to patterns of sequence names; a root that is itself a sequence is called ``.``."""

    def list_items(self) -> Listing:
        tree = open_files(self.root)
        folders = by_folder(tree.list())
        sequences = sorted(
            folder
            for folder, files in folders.items()
            if "rgb.txt" in files or any(".color." in name for name in files)
        )
        if not sequences:
            raise MmsslError(f"{self.root}: no RGB-D sequences; expected rgb.txt, or frame-*.color.* files")
        splits = {
            split: [
                self._item(frame, folders) for name in names for frame in self._frames(tree, name, folders)
            ]
            for split, names in assign(sequences, self.splits, self.root).items()
        }
        return Listing(splits, {})

    def _frames(self, tree: Files, folder: str, folders: dict[str, dict[str, int]]) -> list[Frame]:
        if "rgb.txt" in folders[folder]:
            return read_sequence(tree, folder, folders, self.max_gap)
        return self._seven_scenes(tree, folder, folders[folder])

    def _item(self, frame: Frame, folders: dict[str, dict[str, int]]) -> Item:
        size = 0
        for path in (frame.image, frame.depth):
            pure = PurePosixPath(path)
            size += folders.get(pure.parent.as_posix(), {}).get(pure.name, 0)
        key = safe_key(f"{frame.sequence}/{frame.name}" if frame.sequence != "." else frame.name)
        return Item(key, frame.image, size, frame)

    def _seven_scenes(self, tree: Files, folder: str, files: dict[str, int]) -> list[Frame]:
        frames = []
        for name in sorted(files):
            stem, mark, _ = name.partition(".color.")
            if not mark:
                continue
            if f"{stem}.depth.png" not in files:
                raise MmsslError(f"{tree.root}/{folder}/{name}: no {stem}.depth.png beside it")
            digits = stem.rpartition("-")[2]
            if not digits.isdigit():
                raise MmsslError(f"{tree.root}/{folder}/{name}: expected frame-NUMBER.color.*")
            frames.append(
                Frame(
                    sequence=folder,
                    name=stem,
                    timestamp=int(digits) / self.fps,
                    image=f"{folder}/{name}",
                    depth=f"{folder}/{stem}.depth.png",
                    pose_file=f"{folder}/{stem}.pose.txt" if f"{stem}.pose.txt" in files else None,
                    pose=None,
                    camera_file=next(
                        (
                            f"{folder}/{file}"
                            for file in files
                            if file in ("camera-intrinsics.txt", "intrinsics.txt")
                        ),
                        None,
                    ),
                )
            )
        return frames

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        frame: Frame = item.data
        column, image = image_member(tree.read(frame.image), ImageOptions())
        try:
            depth = self._depth(tree.read(frame.depth))
            pose = frame.pose if frame.pose_file is None else _matrix(tree, frame.pose_file, 4)
            intrinsics = self._intrinsics(tree, frame)
        except BadInput as error:
            raise BadInput(f"with {frame.depth}: {error}") from error
        meta: dict[str, Any] = {"sequence": frame.sequence, "frame": frame.name, "timestamp": frame.timestamp}
        if pose is not None:
            meta["pose"] = pose
        if intrinsics is not None:
            meta["intrinsics"] = intrinsics
        yield RawSample(item.key, {column: image, "depth.png": depth, "meta.json": to_json(meta)})

    def _depth(self, data: bytes) -> bytes:
        """16-bit millimetres; the very same bytes where they are that already."""
        try:
            # Pillow notices a truncated file; OpenCV fills what is missing with zeros.
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                mode, raw = image.mode, np.asarray(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise BadInput(f"depth is not a readable PNG ({error})") from error
        if not mode.startswith("I;16"):
            raise BadInput(f"depth has pixels of mode {mode}; expected 16-bit grey")
        if self.depth_scale == 1000 and not (raw == INVALID).any():
            return data
        millimetres = np.rint(raw.astype(np.float64) * (1000 / self.depth_scale))
        millimetres[(raw == INVALID) | (millimetres > 65535)] = 0
        return png(millimetres.astype(np.uint16))

    def _intrinsics(self, tree: Files, frame: Frame) -> list[list[float]] | None:
        if self.intrinsics is not None:
            fx, fy, cx, cy = self.intrinsics
            return [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]
        return None if frame.camera_file is None else _matrix(tree, frame.camera_file, 3)


def _matrix(tree: Files, path: str, size: int) -> list[list[float]]:
    rows = numbers(tree.read(path).decode("utf-8", "replace"), path)
    if [len(row) for row in rows] != [size] * size or not np.isfinite(rows).all():
        raise BadInput(f"{path}: expected a {size}×{size} matrix")
    return rows
