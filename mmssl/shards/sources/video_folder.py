"""Folders of videos: UCF101, Kinetics, anything that is one file per clip. The bytes are kept as they are."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from mmssl.shards.sources.base import Item, to_json
from mmssl.shards.sources.files import open_files
from mmssl.shards.sources.folders import FolderSource
from mmssl.shards.sources.videos import EXTENSIONS, video_members
from mmssl.shards.writer import RawSample


class VideoFolder(FolderSource):
    """One sample per file: ``video``, ``meta`` and ``label`` where the split has classes."""

    kind: Literal["video_folder"] = "video_folder"
    check: bool = True
    """Decode each video fully once; without it only its container is looked at."""

    extensions: ClassVar[frozenset[str]] = EXTENSIONS

    def load(self, item: Item) -> Iterator[RawSample]:
        extension = item.path.rpartition(".")[2].lower()
        column, data, meta = video_members(open_files(self.root).read(item.path), extension, check=self.check)
        members = {column: data, "meta.json": to_json({**meta, "source": item.path})}
        yield RawSample(item.key, members | self.label_member(item))
