"""Folders in which a text file of captions lies beside every image."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from mmssl.shards.captions import caption_member
from mmssl.shards.sources.base import BadInput, Item, Listing
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.folders import FolderSource
from mmssl.shards.sources.images import EXTENSIONS, ImageOptions, image_member
from mmssl.shards.writer import RawSample


class ImageTextFolder(FolderSource, ImageOptions):
    """One sample per image: ``image``, ``caption`` from the .txt file of the same name, a caption a line, and
    ``label`` where the split has classes. Texts without an image go to missing.txt."""

    kind: Literal["image_text_folder"] = "image_text_folder"

    extensions: ClassVar[frozenset[str]] = EXTENSIONS

    def list_items(self) -> Listing:
        listing = super().list_items()
        tree = open_files(self.root)
        pictured = {_text_of(item.path) for items in listing.splits.values() for item in items}
        others = {self.class_names, *(split.labels for split in self.splits.values())}
        missing = {}
        for name, split in self.splits.items():
            lost = set(_texts(tree.list(split.folder), split.folder)) - pictured - others
            if lost:
                missing[name] = sorted(lost)
        return replace(listing, missing=missing)

    def load(self, item: Item) -> Iterator[RawSample]:
        tree = open_files(self.root)
        column, data = image_member(tree.read(item.path), self)
        path = _text_of(item.path)
        try:
            text = tree.read(path).decode("utf-8-sig")
            captions = caption_member([line for line in text.splitlines() if line.strip()])
        except UnicodeDecodeError as error:
            raise BadInput(f"{path}: not UTF-8 (byte {error.start})") from error
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        yield RawSample(item.key, {column: data, **captions, **self.label_member(item)})


def _text_of(path: str) -> str:
    return f"{path.rpartition('.')[0]}.txt"


def _texts(files: list[tuple[str, int]], folder: str) -> list[str]:
    """Paths beneath the root of the .txt files of a folder."""
    return [
        path if folder == "." else f"{folder}/{path}" for path, _ in files if path.lower().endswith(".txt")
    ]
