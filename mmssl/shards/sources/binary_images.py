"""Images in fixed-size binary records: the official binary versions of CIFAR-10, CIFAR-100 and STL-10.

CIFAR-10 (cs.toronto.edu/~kriz/cifar.html, "binary version"): a label byte, then planes × rows × columns.
STL-10 (Coates et al., AISTATS 2011): channels × columns × rows; labels in a file of their own, from 1.
The pickled versions are not supported: reading a pickle executes it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.encode import png
from mmssl.shards.sources.base import BadInput, Item, Listing, Source, refuse_empty, to_json
from mmssl.shards.sources.files import open_files
from mmssl.shards.writer import RawSample


class BinarySplit(Config):
    """The record files of a split, in order."""

    images: tuple[str, ...] = Field(min_length=1)
    """Files of records, relative to root."""
    labels: str | None = None
    """File of one label byte per record, where the records do not hold their labels."""


class BinaryImages(Source):
    """One sample per record, its image as PNG."""

    kind: Literal["binary_images"] = "binary_images"
    root: str
    splits: dict[str, BinarySplit] = Field(min_length=1)
    side: int = Field(gt=0)
    """Height and width of the images in pixels."""
    label_names: tuple[str, ...] = ()
    """Names of the label bytes in front of each record's pixels, such as ``[class]``."""
    order: Literal["rows", "columns"] = "rows"
    """Whether pixels run along rows (CIFAR) or along columns (STL-10)."""
    first_label: int = 0
    """Number of the first class in the files: 0 (CIFAR) or 1 (STL-10)."""
    class_names: dict[str, str]
    """Label name to a text file under root with one class name per line."""

    @property
    def _record(self) -> int:
        return len(self.label_names) + 3 * self.side**2

    def list_items(self) -> Listing:
        tree = open_files(self.root)
        sizes = dict(tree.list())
        classes = {
            label: [line.strip() for line in tree.read_text(file).splitlines() if line.strip()]
            for label, file in self.class_names.items()
        }
        splits: dict[str, list[Item]] = {}
        for name, split in self.splits.items():
            where = f"{self.root}: splits.{name}"
            labels = self._label_file(split, sizes, where)
            items: list[Item] = []
            for file in split.images:
                if file not in sizes:
                    raise MmsslError(f"{where}.images: no file {file!r}")
                count, rest = divmod(sizes[file], self._record)
                if rest:
                    raise MmsslError(
                        f"{where}.images: {file}: {sizes[file]} bytes is no multiple of {self._record}: "
                        "it is truncated, or side or label_names are others"
                    )
                for number in range(count):
                    label = None if labels is None else labels[len(items)]
                    items.append(
                        Item(
                            key=f"{name}-{len(items):06d}",
                            path=f"{file}#{number}",
                            bytes=self._record,
                            data=(file, number * self._record, label),
                        )
                    )
            if labels is not None and len(labels) != len(items):
                raise MmsslError(f"{where}.labels: {len(labels)} labels for {len(items)} images")
            splits[name] = items
        refuse_empty(splits, self.root)
        return Listing(splits, classes)

    def _label_file(self, split: BinarySplit, sizes: dict[str, int], where: str) -> bytes | None:
        if split.labels is None:
            return None
        if split.labels not in sizes:
            raise MmsslError(f"{where}.labels: no file {split.labels!r}")
        images = sum(sizes.get(file, 0) // self._record for file in split.images)
        if sizes[split.labels] != images:
            raise MmsslError(f"{where}.labels: {sizes[split.labels]} labels for {images} images")
        return open_files(self.root).read(split.labels)

    def load(self, item: Item) -> Iterator[RawSample]:
        file, offset, label = item.data
        try:
            with open(Path(self.root, file), "rb") as records:
                records.seek(offset)
                record = np.frombuffer(records.read(self._record), np.uint8)
        except OSError as error:
            raise BadInput(error.strerror or str(error)) from error
        if len(record) != self._record:
            raise BadInput("truncated record")
        inline = len(self.label_names)
        planes = record[inline:].reshape(3, self.side, self.side)
        pixels = planes.transpose((1, 2, 0) if self.order == "rows" else (2, 1, 0))
        labels = dict(zip(self.label_names, record[:inline].tolist(), strict=True))
        if label is not None:
            labels["class"] = label
        labels = {name: value - self.first_label for name, value in labels.items()}
        if any(value < 0 for value in labels.values()):
            raise BadInput(f"label below first_label {self.first_label}")
        members = {"image.png": png(pixels)}
        if labels:
            members["label.json"] = to_json(labels)
        yield RawSample(item.key, members)
