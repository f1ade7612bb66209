"""Read samples of one split by id: one ``pread`` for a sample, its members checked and handed on as bytes."""

import os
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmssl.errors import MmsslError
from mmssl.shards.index import ShardIndex
from mmssl.shards.manifest import Shard, load_manifest
from mmssl.stream import cache
from mmssl.stream.sample import Sample, Unreadable

_OPEN = 256
"""Shards kept open; a shuffle window touches far fewer."""
_WORTH_READING_OVER = 8192
"""Unwanted bytes inside a sample that are read along rather than skipped by another call."""


class ShardReader:
    """Samples of one split of a shard set, by id; files are opened on first use, by the process that reads.

    Args:
        root: folder or fsspec URL of the shard set.
        split: name of the split.
        fields: the fields to read (all others of a sample are left alone); None reads all.
        folder: where local copies of remote shards are kept; None means the user's cache folder.
        verify: compare every member with its checksum.

    Raises:
        MmsslError: no shard set here, no such split, or a split without samples.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        fields: Collection[str] | None = None,
        folder: str | Path | None = None,
        verify: bool = True,
    ) -> None:
        self.root = str(root).rstrip("/")
        if self.root.endswith((".tar", ".tar.gz", ".tgz")):
            raise MmsslError(
                f"{root}: a tar, not a shard set; expected a folder that `mmssl shards index` has indexed"
            )
        self.split = split
        self.remote = cache.is_remote(self.root)
        if not self.remote:
            self.root = cache.local_path(self.root)
        self.manifest = load_manifest(self.root)
        self.shards = self.manifest.split(split).shards
        self.samples = self.manifest.split(split).samples
        if self.samples == 0:
            sizes = ", ".join(f"{name} ({part.samples})" for name, part in self.manifest.splits.items())
            raise MmsslError(f"{root}: split {split!r} has no samples; splits: {sizes}")
        self._fields = None if fields is None else frozenset(fields)
        self._folder = Path(folder) if folder is not None else cache.default_folder()
        self._verify = verify
        self._first_ids = [shard.first_id for shard in self.shards]
        self._opened: OrderedDict[int, _OpenShard] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Files are opened by the process that reads them, never carried into another."""
        return {**self.__dict__, "_opened": OrderedDict()}

    def check(self) -> None:
        """Compare the sizes of local tars with the manifest, before anything is trained on them.

        Raises:
            MmsslError: missing, truncated or exchanged files, all of them listed.
        """
        if self.remote:
            return  # a request a shard could take long; ``fetch`` compares the size when the shard is needed
        problems = []
        for shard in self.shards:
            try:
                found = os.stat(self._path(shard.file)).st_size
            except OSError as error:
                problems.append(f"{self._path(shard.file)}: {error.strerror}")
                continue
            if found != shard.bytes:
                problems.append(
                    f"{self._path(shard.file)}: {found} bytes, expected {shard.bytes}: truncated or exchanged"
                )
        if problems:
            shown = [*problems[:10], *([f"… and {len(problems) - 10} more"] if len(problems) > 10 else [])]
            raise MmsslError("\n".join(shown))

    def sample(self, id_: int, pass_: int = 0, first_id: int = 0) -> Sample:
        """The sample with this id in the split; ``first_id`` is added to the id it will carry.

        Raises:
            Unreadable: tar missing or truncated, or a member that does not match its checksum.
            MmsslError: the shard's index is damaged or does not belong to the manifest.
        """
        shard, row = self._find(id_)
        return Sample(first_id + id_, shard.key(row), shard.name, pass_, shard.members(row, self._verify))

    def where(self, id_: int) -> tuple[str, str]:
        """Shard and key of a sample, without touching the tar."""
        shard, row = self._find(id_)
        return shard.name, shard.key(row)

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()

    def _find(self, id_: int) -> tuple["_OpenShard", int]:
        number = bisect_right(self._first_ids, id_) - 1
        shard = self._opened.get(number)
        if shard is None:
            shard = self._opened[number] = self._open(self.shards[number])
            if len(self._opened) > _OPEN:
                self._opened.popitem(last=False)[1].close()
        return shard, id_ - self._first_ids[number]

    def _open(self, shard: Shard) -> "_OpenShard":
        path = self._path(shard.index)
        if self.remote:
            try:
                index = ShardIndex.from_bytes(cache.read(path), path)
            except cache.Unreachable as error:
                raise MmsslError(f"{error}; expected the index of a shard") from error
        else:
            index = ShardIndex.load(path)
        if (len(index), index.tar_bytes) != (shard.samples, shard.bytes):
            raise MmsslError(
                f"{path}: {len(index)} samples in {index.tar_bytes} bytes, but the manifest says "
                f"{shard.samples} in {shard.bytes}; index and manifest belong to different shards"
            )
        folder = self._folder if self.remote else None
        return _OpenShard(self._path(shard.file), index, self._fields, folder)

    def _path(self, file: str) -> str:
        return f"{self.root}/{file}"


class _OpenShard:
    """One tar: a table of where everything lies, and a file that is opened when bytes are first asked for."""

    def __init__(
        self, name: str, index: ShardIndex, fields: frozenset[str] | None, folder: Path | None
    ) -> None:
        self.name = name
        self._folder = folder
        self._tar_bytes = index.tar_bytes
        self._key_bytes = index.key_bytes.tobytes()
        self._key_ends = index.key_ends
        columns = [column.split(".", 1) for column in index.columns]
        wanted = [i for i, (field, _) in enumerate(columns) if fields is None or field in fields]
        self._columns = [(columns[i][0], columns[i][1]) for i in wanted]
        table = [part[:, wanted].astype(np.int64) for part in (index.offset, index.size, index.crc32)]
        self._table = np.stack(table, axis=2)
        """(n, F, 3): offset, size, crc32."""
        self._file: IO[bytes] | None = None
        self._unreachable = ""

    def key(self, row: int) -> str:
        start = int(self._key_ends[row - 1]) if row else 0
        return self._key_bytes[start : int(self._key_ends[row])].decode("utf-8", "surrogateescape")

    def members(self, row: int, verify: bool) -> dict[str, tuple[str, bytes | memoryview]]:
        """Field to (extension, bytes). By ``pread``: a file cut while it is mapped would kill the process."""
        places = self._table[row].tolist()
        present = [place for place in places if place[0] >= 0]
        if not present:
            return {}
        start = min(place[0] for place in present)
        length = max(place[0] + place[1] for place in present) - start
        together = length - sum(place[1] for place in present) <= _WORTH_READING_OVER
        block = memoryview(self._read(start, length)) if together else memoryview(b"")
        members: dict[str, tuple[str, bytes | memoryview]] = {}
        for (field, extension), (offset, size, crc32) in zip(self._columns, places, strict=True):
            if offset < 0 or field in members:
                continue
            data = block[offset - start : offset - start + size] if together else self._read(offset, size)
            if verify and zlib.crc32(data) != crc32:
                raise Unreadable(
                    field, "does not match its checksum: damaged, or of another tar than the index"
                )
            members[field] = extension, data
        return members

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, offset: int, size: int) -> bytes:
        if self._file is None:
            self._file = self._open()
        try:
            data = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise Unreadable("shard", f"{self.name}: {error.strerror}") from error
        if len(data) < size:
            raise Unreadable("shard", f"{self.name}: truncated, {len(data)} of {size} bytes at {offset}")
        return data

    def _open(self) -> IO[bytes]:
        if self._unreachable:  # all attempts were made once; do not wait through them for every sample
            raise Unreadable("shard", self._unreachable)
        path: str | Path = self.name
        try:
            if self._folder is not None:
                path = cache.fetch(self.name, self._tar_bytes, self._folder)
            return open(path, "rb", buffering=0)
        except cache.Unreachable as error:
            self._unreachable = str(error)
            raise Unreadable("shard", str(error)) from error
        except OSError as error:
            raise Unreadable("shard", f"{path}: {error.strerror}") from error
