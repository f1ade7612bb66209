"""Folders of images: ImageNet, Tiny-ImageNet, CIFAR as files, anything that is one file per image."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from mmssl.shards.sources.base import Item
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.folders import FolderSource
from mmssl.shards.sources.images import EXTENSIONS, ImageOptions, image_member
from mmssl.shards.writer import RawSample


class ImageFolder(FolderSource, ImageOptions):
    """One sample per image: ``image``, and ``label`` where the split has classes."""

    kind: Literal["image_folder"] = "image_folder"

    extensions: ClassVar[frozenset[str]] = EXTENSIONS

    def load(self, item: Item) -> Iterator[RawSample]:
        column, data = image_member(open_files(self.root).read(item.path), self)
        yield RawSample(item.key, {column: data, **self.label_member(item)})
