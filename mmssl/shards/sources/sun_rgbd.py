"""SUN RGB-D (Song, Lichtenberg, Xiao, CVPR 2015): a folder for each image, from four kinds of sensors."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.sources.depth import Depth, DepthOptions, Matrix, check_range, grey16
from mmssl.shards.sources.files import Files, open_files
from mmssl.shards.sources.frames import read_list, refuse_missing, size_of
from mmssl.shards.sources.images import EXTENSIONS, ImageOptions, image_member
from mmssl.shards.sources.labels import Labels, load_mat, parse_mat, strings
from mmssl.shards.sources.sequences import assign, by_folder, numbers
from mmssl.shards.writer import RawSample, safe_key

_TOP = "SUNRGBD/"
"""Official lists give paths on the authors' disk; what follows this is the path in the archive."""


def _all_train() -> dict[str, tuple[str, ...]]:
    return {"train": ("*",)}


class _Raw(NamedTuple):
    """Paths of one sample, relative to the root."""

    folder: str
    image: str
    depth: str


class SunRGBD(Source, DepthOptions):
    """One sample per folder with ``image/*.jpg`` and ``depth_bfx/*.png``: ``image``, ``depth``, ``meta``
    (scene, intrinsics, extrinsics: the 3×4 matrix that turns the camera upright), on demand ``normals``,
    ``segmentation`` (of ``seg.mat``) and the label ``scene``.
    """

    kind: Literal["sun_rgbd"] = "sun_rgbd"
    root: str
    """The folder SUNRGBD, or a zip archive with it."""
    depth: Literal["depth_bfx", "depth"] = "depth_bfx"
    """Depth with its holes filled by the authors, as the toolbox reads it, or as the sensor gave it."""
    splits: dict[str, tuple[str, ...]] = Field(default_factory=_all_train, min_length=1)
    """Split name to patterns of folders, relative to the root."""
    split_file: str | None = None
    """In place of ``splits``: the official allsplit.mat (alltrain, alltest), for splits train and test."""
    lists: dict[str, str] = Field(default_factory=dict)
    """In place of ``splits``: split name to a text file of folders, one a line."""
    max_missing_share: float = Field(default=0.01, ge=0, le=1)
    """Listed folders that are not there go to missing.txt; a larger share of a split stops the build."""
    scenes: tuple[str, ...] = ()
    """Names in scene.txt that become the label ``scene``; images of other scenes have none."""
    labels: Labels | None = None
    """Classes of the names in seg.mat; without it there is no segmentation."""

    def list_items(self) -> Listing:
        folders = by_folder(open_files(self.root).list())
        found: dict[str, Item] = {}
        for path, files in folders.items():
            folder, _, last = path.rpartition("/")
            depths = sorted(
                name for name in folders.get(f"{folder}/{self.depth}", {}) if name.endswith(".png")
            )
            images = sorted(name for name in files if name.rpartition(".")[2].lower() in EXTENSIONS)
            if last == "image" and images:
                raw = _Raw(
                    folder, f"{path}/{images[0]}", f"{folder}/{self.depth}/{depths[0] if depths else ''}"
                )
                cost = self.cost(size_of(raw.image, folders), size_of(raw.depth, folders))
                found[folder] = Item(safe_key(folder), raw.image, cost, raw)
        if not found:
            raise MmsslError(
                f"{self.root}: no samples; expected folders with image/*.jpg and {self.depth}/*.png"
            )
        missing: dict[str, list[str]] = {}
        splits = {
            split: [found[name] for name in names] for split, names in self._assigned(found, missing).items()
        }
        refuse_empty(splits, self.root)
        classes = {"scene": list(self.scenes)} if self.scenes else {}
        if self.labels is not None:
            classes["segmentation"] = self.labels.names()
        return Listing(splits, classes, {split: names for split, names in missing.items() if names})

    def _assigned(self, found: dict[str, Item], missing: dict[str, list[str]]) -> dict[str, list[str]]:
        """Split to folders; what the lists name in vain goes to ``missing``."""
        lists = {split: read_list(path) for split, path in self.lists.items()}
        if self.split_file is not None:
            content = load_mat(self.split_file)
            for split in ("train", "test"):
                if f"all{split}" not in content:
                    raise MmsslError(f"{self.split_file}: no all{split}; found {', '.join(content)}")
                lists[split] = strings(content[f"all{split}"])
        if not lists:
            return assign(sorted(found), self.splits, self.root)
        here = {_inside(name): name for name in found}
        assigned = {}
        for split, names in lists.items():
            wanted = sorted({_inside(name) for name in names})
            assigned[split] = [here[name] for name in wanted if name in here]
            missing[split] = [name for name in wanted if name not in here]
            refuse_missing(
                self.root, f"folders of {split}", missing[split], len(wanted), self.max_missing_share
            )
        return assigned

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        raw: _Raw = item.data
        column, image = image_member(tree.read(raw.image), ImageOptions())
        try:
            if raw.depth.endswith("/"):
                raise BadInput(f"no {self.depth}/*.png")
            depth = rotated_depth(tree.read(raw.depth))
            camera = _numbers(tree, f"{raw.folder}/intrinsics.txt", (3, 3))
            ids = None if self.labels is None else _segmentation(tree, f"{raw.folder}/seg.mat", self.labels)
            members, intrinsics = self.members(column, image, depth, camera, ids)
        except BadInput as error:
            raise BadInput(f"with {raw.depth}: {error}") from error
        scene = tree.read(f"{raw.folder}/scene.txt").decode("utf-8", "replace").strip()
        meta: dict[str, Any] = {
            "intrinsics": intrinsics,
            "scene": scene,
            "sensor": _inside(raw.folder).split("/")[0],
        }
        upright = sorted(path for path, _ in _under(tree, f"{raw.folder}/extrinsics"))
        if upright:
            meta["extrinsics"] = _numbers(tree, f"{raw.folder}/extrinsics/{upright[-1]}", (3, 4))
        if scene in self.scenes:
            members["label.json"] = to_json({"scene": self.scenes.index(scene)})
        yield RawSample(item.key, {**members, "meta.json": to_json(meta)})


def rotated_depth(data: bytes) -> Depth:
    """SUN RGB-D's PNGs hold millimetres rotated left by 3 bits; the toolbox reads (d >> 3) | (d << 13).

    Raises:
        BadInput: damaged, missing everywhere, or of another unit.
    """
    raw = grey16(data)
    metres = ((raw >> 3) | (raw << 13)).astype(np.float64) / 1000
    check_range(metres)
    return Depth(metres.astype(np.float32))


def _segmentation(tree: Files, path: str, labels: Labels) -> np.ndarray:
    """(H, W) uint8 class ids: seglabel counts the entries of names from 1."""
    content = parse_mat(tree.read(path))
    if "seglabel" not in content or "names" not in content:
        raise BadInput(f"{path}: expected seglabel and names, found {', '.join(content)}")
    raw = np.asarray(content["seglabel"])
    return labels.ids(raw, labels.numbered(strings(content["names"])))


def _numbers(tree: Files, path: str, shape: tuple[int, int]) -> Matrix:
    """A matrix from a text file, however its lines are broken."""
    values = [value for row in numbers(tree.read(path).decode("utf-8", "replace"), path) for value in row]
    if len(values) != shape[0] * shape[1] or not np.isfinite(values).all():
        raise BadInput(f"{path}: expected a {shape[0]}×{shape[1]} matrix")
    return np.reshape(values, shape).tolist()


def _under(tree: Files, folder: str) -> list[tuple[str, int]]:
    try:
        return tree.list(folder)
    except MmsslError:
        return []


def _inside(name: str) -> str:
    """``/n/fs/sun3d/data/SUNRGBD/kv1/…/NYU0001/`` to ``kv1/…/NYU0001``."""
    return name.rpartition(_TOP)[2].strip("/")
