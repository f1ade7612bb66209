"""Folders of videos: anything that is one file per clip, in class folders or flat."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from mmssl.shards.sources.base import Item
from mmssl.shards.sources.folders import FolderSource
from mmssl.shards.sources.videos import EXTENSIONS, file_samples
from mmssl.shards.video import VideoOptions
from mmssl.shards.writer import RawSample


class VideoFolder(FolderSource, VideoOptions):
    """One sample per file or segment: ``video``, ``meta`` and ``label`` where the split has classes."""

    kind: Literal["video_folder"] = "video_folder"

    extensions: ClassVar[frozenset[str]] = EXTENSIONS

    def load(self, item: Item) -> Iterator[RawSample]:
        yield from file_samples(self.root, item.path, item.key, self, {}, self.label_member(item))
