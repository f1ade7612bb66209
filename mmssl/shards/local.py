"""Read single samples of a local shard set by id, to look at them; ``mmssl.stream`` reads for training."""

from bisect import bisect_right
from functools import lru_cache
from pathlib import Path

from mmssl.errors import MmsslError
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import load_manifest
from mmssl.shards.writer import RawSample


class LocalShards:
    """``LocalShards(root).sample("train", 5)`` is the encoded sample with id 5."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.manifest = load_manifest(root)
        self._index = lru_cache(maxsize=4)(ShardIndex.load)

    def sample(self, split: str, id_: int) -> RawSample:
        """One sample's key and encoded members.

        Raises:
            MmsslError: no such split or id, or its shard is missing or truncated.
        """
        found = self.manifest.split(split)
        if not 0 <= id_ < found.samples:
            raise MmsslError(f"{self.root}: split {split!r} has no id {id_}; it has {found.samples} samples")
        shard = found.shards[bisect_right([shard.first_id for shard in found.shards], id_) - 1]
        index = self._index(self.root / shard.index)
        row = id_ - index.first_id
        members = {}
        try:
            with open(self.root / shard.file, "rb") as tar:
                for at, column in enumerate(index.columns):
                    if index.offset[row, at] >= 0:
                        tar.seek(int(index.offset[row, at]))
                        members[column] = tar.read(int(index.size[row, at]))
        except OSError as error:
            raise MmsslError(f"{self.root / shard.file}: not readable ({error.strerror})") from error
        return RawSample(index.keys[row], members)
