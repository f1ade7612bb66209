"""ScanNet's exported frames (Dai et al., CVPR 2017): folders of colour, depth, poses and labels by number."""

from typing import Literal

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.depth import Matrix, camera_matrix, image_size, nearest, resize_image, scaled
from mmssl.shards.sources.files import Files
from mmssl.shards.sources.frames import Folders, Frame, RGBDFrames
from mmssl.shards.sources.images import ImageOptions, image_member
from mmssl.shards.sources.labels import Labels, label_image
from mmssl.shards.sources.sequences import numbers


class ScanNet(RGBDFrames):
    """``SCENE/color/N.jpg``, ``depth/N.png``, ``pose/N.txt``, ``intrinsic/intrinsic_depth.txt`` or
    ``intrinsic_color.txt`` (or ``intrinsics_*.txt`` in the scene's folder), and optionally label images.

    Colour of another size than depth is resized to it by means over areas, labels to the nearest pixel:
    ScanNet's depth is 640×480, its colour 1296×968, and their fields of view are the same to half a per cent.
    A frame that was not localised (a pose of -inf) has no ``pose``.
    """

    kind: Literal["scannet"] = "scannet"
    fps: float = Field(default=30, gt=0)
    """Turns frame numbers into timestamps."""
    label_folder: str = "label-filt"
    """Where a scene's label images are."""
    labels: Labels | None = None
    """Their classes: a table such as scannetv2-labels.combined.tsv (raw: id, name: nyu40class); without it
    they are not read."""

    def sequences(self, folders: Folders) -> list[str]:
        scenes = {(name.rpartition("/")[0] or ".") for name in folders if name.rpartition("/")[2] == "color"}
        found = sorted(scene for scene in scenes if _in(scene, "depth") in folders)
        if not found:
            raise MmsslError(f"{self.root}: no scenes; expected folders with color/ and depth/")
        return found

    def frames(self, tree: Files, folder: str, folders: Folders) -> list[Frame]:
        depths = folders[_in(folder, "depth")]
        poses, labels = (folders.get(_in(folder, name), {}) for name in ("pose", self.label_folder))
        frames = []
        for name in folders[_in(folder, "color")]:
            number = name.rpartition(".")[0]
            if not number.isdigit():
                raise MmsslError(f"{tree.root}/{_in(folder, 'color')}/{name}: expected NUMBER.jpg")
            found = f"{number}.png" in depths
            frames.append(
                Frame(
                    sequence=folder,
                    name=f"{int(number):06d}",
                    timestamp=int(number) / self.fps,
                    image=f"{_in(folder, 'color')}/{name}",
                    depth=f"{_in(folder, 'depth')}/{number}.png" if found else None,
                    pose_file=f"{_in(folder, 'pose')}/{number}.txt" if f"{number}.txt" in poses else None,
                    camera_file=_camera_file(folder, folders),
                    labels=f"{_in(folder, self.label_folder)}/{number}.png"
                    if f"{number}.png" in labels
                    else None,
                    problem=None if found else f"no depth/{number}.png",
                )
            )
        return sorted(frames, key=lambda frame: frame.timestamp)

    def segmentation(self) -> Labels | None:
        return self.labels

    def read_image(self, data: bytes, size: tuple[int, int]) -> tuple[str, bytes]:
        column, image = image_member(data, ImageOptions())
        return (
            (column, image)
            if image_size(image) == size
            else ("image.jpg", encode.jpeg(resize_image(image, size)))
        )

    def read_labels(self, data: bytes, size: tuple[int, int], labels: Labels) -> np.ndarray:
        return labels.ids(nearest(label_image(data), size), labels.by_number())

    def read_camera(self, tree: Files, frame: Frame, size: tuple[int, int]) -> Matrix | None:
        if self.intrinsics is not None:
            return camera_matrix(self.intrinsics)
        if frame.camera_file is None:
            return None
        found = _corner(tree, frame.camera_file, 3)
        if found is None:
            raise BadInput(f"{frame.camera_file}: expected a finite 3×3 or 4×4 matrix")
        colour = frame.camera_file.endswith("_color.txt")
        return scaled(found, image_size(tree.read(frame.image)), size) if colour else found

    def read_pose(self, tree: Files, frame: Frame) -> Matrix | None:
        return None if frame.pose_file is None else _corner(tree, frame.pose_file, 4)


def _corner(tree: Files, path: str, size: int) -> Matrix | None:
    """The first rows and columns of a matrix of at least that size; None if it is not finite.

    Raises:
        BadInput: smaller, or no numbers.
    """
    rows = numbers(tree.read(path).decode("utf-8", "replace"), path)
    if len(rows) not in (3, 4) or any(len(row) != len(rows) for row in rows) or len(rows) < size:
        raise BadInput(f"{path}: expected a {size}×{size} matrix")
    corner = [row[:size] for row in rows[:size]]
    return corner if np.isfinite(corner).all() else None


def _camera_file(folder: str, folders: Folders) -> str | None:
    """Depth's own intrinsics before colour's: what is stored lies on depth's pixels."""
    for of in ("depth", "color"):
        for path in (_in(folder, f"intrinsic/intrinsic_{of}.txt"), _in(folder, f"intrinsics_{of}.txt")):
            parent, _, name = path.rpartition("/")
            if name in folders.get(parent or ".", {}):
                return path
    return None


def _in(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"
