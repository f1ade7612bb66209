"""Sequences of RGB-D frames, whatever their layout: what a frame is, and how it becomes a sample."""

import contextlib
import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.flow import FlowOptions
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.sources.depth import (
    Depth,
    DepthOptions,
    Matrix,
    camera_matrix,
    matrix,
    png_depth,
)
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.images import ImageOptions, image_member
from mmssl.shards.sources.labels import Labels, label_image
from mmssl.shards.sources.neighbours import neighbour_flow
from mmssl.shards.sources.sequences import assign, by_folder
from mmssl.shards.sources.stretches import Stretches
from mmssl.shards.writer import RawSample, safe_key

Folders = Mapping[str, Mapping[str, int]]
"""Folder to its files (name to bytes)."""


@dataclass(frozen=True)
class Frame:
    """An RGB-D frame of any layout; paths are relative to the source's root."""

    sequence: str
    name: str
    timestamp: float
    """Seconds."""
    image: str
    depth: str | None
    pose_file: str | None = None
    pose: Matrix | None = None
    """Camera to world, 4×4, where it is not in a file of its own."""
    camera_file: str | None = None
    labels: str | None = None
    problem: str | None = None
    """Why it cannot be used, where the listing shows it already; counted and named like damaged ones."""
    neighbours: tuple[tuple[str, str, float], ...] = ()
    """Field (``flow``, ``flow_backward``), image that it leads to, and seconds until then."""


def _all_train() -> dict[str, tuple[str, ...]]:
    return {"train": ("*",)}


class RGBDFrames(Source, DepthOptions):
    """One sample per frame: ``image``, ``depth`` (16-bit millimetres, 0 = missing), ``meta``; on demand
    ``normals`` and ``flow``; ``segmentation`` where the layout has labels.

    ``meta`` holds sequence, frame, timestamp in seconds, intrinsics (3×3, pixels), pose (4×4, camera to
    world), and of flow how it was made and the seconds it spans.
    """

    root: str
    """A sequence's folder, a folder of sequences, or a zip archive of them."""
    depth_scale: float = Field(default=1000, gt=0)
    """Stored depth units per metre: 1000 in 7-Scenes and ScanNet, 5000 in TUM RGB-D."""
    intrinsics: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels, where no file says so; the first pixel's centre is 0."""
    flow: FlowOptions | None = None
    """Store optical flow to the frame ``gap`` frames later in the raw sequence, whatever ``every`` takes; the
    last ones have none."""
    every: int = Field(default=1, ge=1)
    """Take each n-th frame of a sequence."""
    splits: dict[str, tuple[str, ...]] = Field(default_factory=_all_train, min_length=1)
    """Split name to patterns of sequence names; a root that is itself a sequence is called ``.``."""
    lists: dict[str, str] = Field(default_factory=dict)
    """In place of ``splits``: split name to a text file of sequence names, one a line."""
    stretches: Stretches | None = None
    """Make a validation split of stretches of every training sequence, where there are too few sequences."""
    max_missing_share: float = Field(default=0.01, ge=0, le=1)
    """Frames and sequences that a list names but that are not there go to missing.txt; a larger share of a
    split stops the build."""

    @abstractmethod
    def sequences(self, folders: Folders) -> list[str]:
        """The folders that are sequences, sorted.

        Raises:
            MmsslError: there are none.
        """

    @abstractmethod
    def frames(self, tree: Files, folder: str, folders: Folders) -> list[Frame]:
        """A sequence's frames in the order of time."""

    def segmentation(self) -> Labels | None:
        """How label images are read, in layouts that have them."""
        return None

    def read_depth(self, data: bytes) -> Depth:
        """The content of a depth file."""
        return png_depth(data, self.depth_scale)

    def read_image(self, data: bytes, size: tuple[int, int]) -> tuple[str, bytes]:
        """Column and bytes of an image; ``size`` is (height, width) of its depth map."""
        return image_member(data, ImageOptions())

    def read_labels(self, data: bytes, size: tuple[int, int], labels: Labels) -> np.ndarray:
        """(H, W) uint8 class ids."""
        return labels.ids(label_image(data), labels.by_number())

    def read_camera(self, tree: Files, frame: Frame, size: tuple[int, int]) -> Matrix | None:
        """The intrinsics of a depth map of (height, width) ``size``."""
        if self.intrinsics is not None:
            return camera_matrix(self.intrinsics)
        return None if frame.camera_file is None else matrix(tree, frame.camera_file, 3)

    def read_pose(self, tree: Files, frame: Frame) -> Matrix | None:
        """Camera to world; None where it is unknown."""
        return frame.pose if frame.pose_file is None else matrix(tree, frame.pose_file, 4)

    def list_items(self) -> Listing:
        tree = open_files(self.root)
        folders = by_folder(tree.list())
        splits: dict[str, list[Item]] = {}
        missing: dict[str, list[str]] = {}
        for split, names in self._assigned(self.sequences(folders), missing).items():
            listed = [
                frame for name in names for frame in self._linked(self.frames(tree, name, folders), folders)
            ]
            splits[split] = [self._item(frame, folders) for frame in listed if not absent(frame, folders)]
            lost = [path for frame in listed if (path := absent(frame, folders))]
            refuse_missing(self.root, f"frames of split {split!r}", lost, len(listed), self.max_missing_share)
            missing.setdefault(split, []).extend(lost)
            self._refuse_no_camera(listed)
        if self.stretches is not None:
            splits = self.stretches.apply(splits)
        refuse_empty(splits, self.root)
        labels = self.segmentation()
        told = {split: names for split, names in missing.items() if names}
        return Listing(splits, {"segmentation": labels.names()} if labels else {}, told)

    def _assigned(self, sequences: list[str], missing: dict[str, list[str]]) -> dict[str, list[str]]:
        """Split to its sequences; what ``lists`` name in vain is added to ``missing``."""
        if not self.lists:
            return assign(sequences, self.splits, self.root)
        assigned = {}
        for split, path in self.lists.items():
            names = read_list(path)
            assigned[split] = sorted(set(names) & set(sequences))
            missing[split] = sorted(set(names) - set(sequences))
            refuse_missing(path, "sequences", missing[split], len(names), self.max_missing_share)
        return assigned

    def _refuse_no_camera(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self.normals and self.intrinsics is None and frame.camera_file is None:
                raise MmsslError(
                    f"{self.root}: normals of sequence {frame.sequence!r} need the camera; expected a file "
                    "of intrinsics, or source.intrinsics: [fx, fy, cx, cy]"
                )

    def _linked(self, frames: list[Frame], folders: Folders) -> list[Frame]:
        """Each n-th frame, with the neighbours that its flow leads to."""
        if self.flow is None:
            return frames[:: self.every]
        there = [frame for frame in frames if not absent(frame, folders)]
        place = {frame.name: at for at, frame in enumerate(there)}
        steps = {"flow": self.flow.gap} | ({"flow_backward": -self.flow.gap} if self.flow.backward else {})
        linked = []
        for frame in frames[:: self.every]:
            found = []
            for field, step in steps.items():
                at = place.get(frame.name, len(there)) + step
                if 0 <= at < len(there):
                    found.append((field, there[at].image, round(there[at].timestamp - frame.timestamp, 6)))
            linked.append(dataclasses.replace(frame, neighbours=tuple(found)))
        return linked

    def _item(self, frame: Frame, folders: Folders) -> Item:
        key = safe_key(f"{frame.sequence}/{frame.name}" if frame.sequence != "." else frame.name)
        depth = 0 if frame.depth is None else size_of(frame.depth, folders)
        return Item(key, frame.image, self.cost(size_of(frame.image, folders), depth), frame)

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        frame: Frame = item.data
        if frame.depth is None or frame.problem is not None:
            raise BadInput(frame.problem or "no depth map")
        raw = tree.read(frame.image)
        with _naming(frame.depth):
            depth = self.read_depth(tree.read(frame.depth))
        size = depth.metres.shape[0], depth.metres.shape[1]
        column, image = self.read_image(raw, size)
        ids = None
        labels = self.segmentation()
        if labels is not None and frame.labels is not None:
            with _naming(frame.labels):
                ids = self.read_labels(tree.read(frame.labels), size, labels)
        with _naming(frame.depth):
            pose, camera = self.read_pose(tree, frame), self.read_camera(tree, frame, size)
            members, intrinsics = self.members(column, image, depth, camera, ids)
        meta: dict[str, Any] = {"sequence": frame.sequence, "frame": frame.name, "timestamp": frame.timestamp}
        if pose is not None:
            meta["pose"] = pose
        if intrinsics is not None:
            meta["intrinsics"] = intrinsics
        if self.flow is not None:
            stored = next(data for name, data in members.items() if name.startswith("image."))
            neighbours, seconds = {}, {}
            for field, path, after in frame.neighbours:
                # A neighbour that cannot be read is counted as itself; this frame only goes without its flow.
                with contextlib.suppress(BadInput):
                    neighbours[field] = self.image(*self.read_image(tree.read(path), size))[1]
                    seconds[field] = after
            fields, about = neighbour_flow(self.flow, stored, neighbours)
            members |= fields
            if about:
                meta["flow"] = {**about, "seconds": seconds}
        yield RawSample(item.key, {**members, "meta.json": to_json(meta)})


def refuse_missing(where: str, what: str, lost: list[str], listed: int, bearable: float) -> None:
    """Raise MmsslError if more than a share of what was listed is missing, naming the first few."""
    if len(lost) > bearable * listed:
        first = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise MmsslError(
            f"{where}: {len(lost)} of {listed} listed {what} are missing, more than max_missing_share "
            f"{bearable:g} allows: {first}"
        )


def read_list(path: str) -> list[str]:
    """The lines of a text file that hold something.

    Raises:
        MmsslError: missing, or not UTF-8.
    """
    try:
        text = Path(path).expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MmsslError(f"{path}: {error}; expected a text file, one name a line") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say which of a frame's files is bad: the image names the frame."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"with {path}: {error}") from error


def size_of(path: str, folders: Folders) -> int:
    """Bytes of a file; 0 if it is not there."""
    parent, _, name = path.rpartition("/")
    return folders.get(parent or ".", {}).get(name, 0)


def absent(frame: Frame, folders: Folders) -> str | None:
    """The first of a frame's files that is not there."""
    for path in (frame.image, frame.depth):
        if path is not None:
            parent, _, name = path.rpartition("/")
            if name not in folders.get(parent or ".", {}):
                return path
    return None
