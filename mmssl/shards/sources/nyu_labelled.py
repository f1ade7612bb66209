"""The labelled set of NYU Depth v2 (Silberman, Hoiem, Kohli, Fergus, ECCV 2012): one MATLAB 7.3 (HDF5) file.

1449 images that the authors' toolbox has undistorted, with depth projected into the colour camera and its
holes filled. MATLAB's order of axes is the reverse of ours: ``images`` is (N, 3, W, H) here.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards import encode
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.sources.depth import Depth, DepthOptions, camera_matrix, check_range
from mmssl.shards.sources.frames import read_list
from mmssl.shards.sources.labels import Labels, load_mat
from mmssl.shards.writer import RawSample

if TYPE_CHECKING:
    import h5py


class NYULabelled(Source, DepthOptions):
    """One sample per image: ``image``, ``depth``, ``meta`` (number, scene, intrinsics), the label ``scene``
    (the scene's type), on demand ``normals`` and ``segmentation``."""

    kind: Literal["nyu_labelled"] = "nyu_labelled"
    file: str
    """nyu_depth_v2_labeled.mat."""
    split_file: str | None = None
    """The official splits.mat (trainNdxs, testNdxs), for splits train (795) and test (654)."""
    lists: dict[str, str] = Field(default_factory=dict)
    """In its place: split name to a text file of image numbers, from 1, one a line. Without either, all
    images are the split train."""
    labels: Labels | None = None
    """Classes of the 894 names: a table (raw: the name), classMapping40.mat, or names alone; without it there
    is no segmentation, as 894 classes do not fit its 8 bits."""
    depths: Literal["depths", "rawDepths"] = "depths"
    """With holes filled by the authors, or as the sensor gave it."""
    intrinsics: tuple[float, float, float, float] = (518.857901, 519.469611, 324.582449, 252.736166)
    """fx, fy, cx, cy of the colour camera, from the toolbox, where pixels count from 1."""
    image_format: Literal["jpg", "png"] = "jpg"
    """JPEG of quality 95 without chroma subsampling, or lossless and six times larger."""

    def list_items(self) -> Listing:
        file = _open(self.file)
        needed = ["images", self.depths, "sceneTypes", "scenes"]
        needed += ["labels", "names"] if self.labels is not None else []
        for name in needed:
            if name not in file:
                raise MmsslError(f"{self.file}: no {name!r}; expected the labelled set of NYU Depth v2")
        count = len(file["images"])
        shapes = {name: (len(file[name]), *file[name].shape[-2:]) for name in needed if file[name].ndim > 2}
        if len(set(shapes.values())) != 1:
            raise MmsslError(f"{self.file}: arrays of different sizes: {shapes}")
        types = [_text(file, "sceneTypes", at) for at in range(count)]
        scenes = sorted(set(types))
        cost = self.cost(int(np.prod(shapes["images"][1:])) // 3, int(np.prod(shapes["images"][1:])) // 2)
        splits = {
            split: [
                Item(
                    f"{number:04d}",
                    f"image {number} of {self.file}",
                    cost,
                    (number, scenes.index(types[number - 1])),
                )
                for number in numbers
            ]
            for split, numbers in self._numbers(count).items()
        }
        refuse_empty(splits, self.file)
        classes = {"scene": scenes}
        if self.labels is not None:
            classes["segmentation"] = self.labels.names()
        return Listing(splits, classes)

    def _numbers(self, count: int) -> dict[str, list[int]]:
        """Split to image numbers, from 1."""
        lists: dict[str, list[int]] = {}
        if self.split_file is not None:
            content = load_mat(self.split_file)
            for split in ("train", "test"):
                if f"{split}Ndxs" not in content:
                    raise MmsslError(f"{self.split_file}: no {split}Ndxs; found {', '.join(content)}")
                lists[split] = [int(number) for number in content[f"{split}Ndxs"].ravel()]
        for split, path in self.lists.items():
            try:
                lists[split] = [int(line) for line in read_list(path)]
            except ValueError as error:
                raise MmsslError(f"{path}: {error}; expected one image number a line") from error
        for split, numbers in lists.items():
            wrong = [number for number in numbers if not 1 <= number <= count]
            if wrong:
                raise MmsslError(f"{self.file}: split {split!r} names image {wrong[0]}; expected 1..{count}")
        chosen = {split: sorted(set(numbers)) for split, numbers in lists.items()}
        return chosen or {"train": list(range(1, count + 1))}

    def load(self, item: Item) -> Iterator[RawSample]:
        number, scene = item.data
        at = number - 1
        file = _open(self.file)
        try:
            rgb, metres = file["images"][at].T, file[self.depths][at].T.astype(np.float32)
            raw = file["labels"][at].T if self.labels is not None else None
            names = _names(self.file) if self.labels is not None else []
            place = _text(file, "scenes", at)
        except (OSError, KeyError, ValueError) as error:
            raise BadInput(f"does not read ({error})") from error
        metres = np.where(np.isfinite(metres) & (metres > 0), metres, 0)
        check_range(metres)
        ids = (
            None
            if raw is None or self.labels is None
            else self.labels.ids(raw, self.labels.numbered(list(names)))
        )
        image = encode.jpeg(rgb) if self.image_format == "jpg" else encode.png(rgb)
        members, intrinsics = self.members(
            f"image.{self.image_format}", image, Depth(metres), camera_matrix(self.intrinsics), ids
        )
        meta: dict[str, Any] = {"number": number, "scene": place, "intrinsics": intrinsics}
        members |= {"label.json": to_json({"scene": scene}), "meta.json": to_json(meta)}
        yield RawSample(item.key, members)


@lru_cache(maxsize=1)
def _open(path: str) -> "h5py.File":
    """Kept open: one of a gigabyte holds everything.

    Raises:
        MmsslError: missing, or not HDF5.
    """
    import h5py  # only this source needs it

    try:
        return h5py.File(Path(path).expanduser(), "r")
    except OSError as error:
        raise MmsslError(f"{path}: {error}; expected nyu_depth_v2_labeled.mat, MATLAB 7.3") from error


@lru_cache(maxsize=1)
def _names(path: str) -> tuple[str, ...]:
    """The raw labels' names; label k is the k-th, 0 is unlabelled."""
    file = _open(path)
    return tuple(_text(file, "names", at) for at in range(file["names"].size))


def _text(file: "h5py.File", name: str, at: int) -> str:
    """Entry of a cell array of texts: a reference to an array of UTF-16 code units."""
    return file[file[name][()].ravel()[at]][()].astype(np.uint16).tobytes().decode("utf-16-le")
