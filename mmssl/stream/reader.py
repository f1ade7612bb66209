"""Read samples of one split by id: at most one ``pread`` a sample; members are checked and given as bytes."""

import os
import struct
import zlib
from bisect import bisect_right
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
_AHEAD = 1 << 20
"""Bytes read at once while samples are asked for in order."""
_NOTHING = memoryview(b"")


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
        self._opened: dict[int, _OpenShard] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Files are opened by the process that reads them, never carried into another."""
        return {**self.__dict__, "_opened": {}}

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
        number = bisect_right(self._first_ids, id_) - 1
        shard = self._opened.get(number) or self._enter(number)
        return shard.sample(id_ - self._first_ids[number], first_id + id_, pass_, self._verify)

    def where(self, id_: int) -> tuple[str, str]:
        """Shard and key of a sample, without touching the tar."""
        number = bisect_right(self._first_ids, id_) - 1
        shard = self._opened.get(number) or self._enter(number)
        return shard.name, shard.key(id_ - self._first_ids[number])

    def close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()

    def _enter(self, number: int) -> "_OpenShard":
        """Open a shard; the one that has been open longest makes room for it."""
        for opened in self._opened.values():
            opened.forget()
        shard = self._opened[number] = self._open(self.shards[number])
        if len(self._opened) > _OPEN:
            self._opened.pop(next(iter(self._opened))).close()
        return shard

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
    """One tar: a table of where everything lies, and a file that is opened when bytes are first asked for.

    The table is kept as packed rows, since unpacking a few integers costs a tenth of what NumPy's indexing
    does, and Python objects for all of them would take hundreds of bytes a sample.
    """

    def __init__(
        self, name: str, index: ShardIndex, fields: frozenset[str] | None, folder: Path | None
    ) -> None:
        self.name = name
        self._folder = folder
        self._tar_bytes = index.tar_bytes
        self._keys = "".join(index.keys)
        columns = [column.split(".", 1) for column in index.columns]
        wanted = [i for i, (field, _) in enumerate(columns) if fields is None or field in fields]
        self._columns = [(columns[i][0], columns[i][1]) for i in wanted]
        self._rows = _pack(index, wanted)
        self._unpack = struct.Struct(f"<{4 + 3 * len(wanted)}q").unpack_from
        self._row_bytes = 8 * (4 + 3 * len(wanted))
        self._file: IO[bytes] | None = None
        self._descriptor = -1
        self._stretch = _NOTHING
        """Bytes of the tar that have been read ahead."""
        self._stretch_start = self._stretch_end = -_WORTH_READING_OVER
        """Where in the tar the latest reading started and ended."""
        self._unreachable = ""

    def key(self, row: int) -> str:
        start, end = self._unpack(self._rows, row * self._row_bytes)[:2]
        return self._keys[start:end]

    def sample(self, row: int, id_: int, pass_: int, verify: bool) -> Sample:
        """Row ``row``, as the sample ``id_``. See ``ShardReader.sample`` for what is raised."""
        places = self._unpack(self._rows, row * self._row_bytes)
        first, length = places[2], places[3]
        stretch, base = self._stretch, first - self._stretch_start
        if length >= 0 and (base < 0 or base + length > len(stretch)):
            stretch, base = self._load(first, length), 0
        members: dict[str, tuple[str, bytes | memoryview]] = {}
        at = 1
        for field, extension in self._columns:
            at += 3
            start = places[at]
            if start < 0:
                continue
            end = places[at + 1]
            data = (
                stretch[base + start : base + end] if length >= 0 else self._read(first + start, end - start)
            )
            if verify and zlib.crc32(data) != places[at + 2]:
                raise Unreadable(
                    field, "does not match its checksum: damaged, or of another tar than the index"
                )
            members[field] = extension, data
        return Sample(id_, self._keys[places[0] : places[1]], self.name, pass_, members)

    def forget(self) -> None:
        """Let go of bytes that were read ahead."""
        self._stretch = _NOTHING

    def close(self) -> None:
        self.forget()
        if self._file is not None:
            self._file.close()

    def _load(self, first: int, length: int) -> memoryview:
        """These bytes, and those that follow where samples are being read one after the other.

        A call costs about as much as the 4 KB it could have read in its time.
        """
        in_order = self._stretch_start <= first <= self._stretch_end + _WORTH_READING_OVER
        data = self._read(first, length, min(_AHEAD, self._tar_bytes - first) if in_order else 0)
        stretch = memoryview(data)
        self._stretch = stretch if in_order else _NOTHING
        self._stretch_start, self._stretch_end = first, first + len(stretch)
        return stretch

    def _read(self, offset: int, size: int, or_more: int = 0) -> bytes:
        """By ``pread``: in a mapped file, a cut end or a bad disk would be a fatal signal."""
        if self._descriptor < 0:
            self._file = self._open()
            self._descriptor = self._file.fileno()
        try:
            data = os.pread(self._descriptor, or_more if or_more > size else size, offset)
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


def _pack(index: ShardIndex, wanted: list[int]) -> bytes:
    """n rows of 4 + 3F int64: where the key starts and ends among all keys; first byte and length of
    what to read in one go (-1 = its members lie too far apart); start and end of every wanted member from
    that first byte on (-1 = absent), and its checksum.
    """
    offset, size, crc32 = index.offset[:, wanted], index.size[:, wanted], index.crc32[:, wanted]
    present = offset >= 0
    for column, i in enumerate(wanted):  # a field with two extensions: the first of them counts
        field = index.columns[i].split(".", 1)[0] + "."
        before = [at for at in range(column) if index.columns[wanted[at]].startswith(field)]
        present[:, column] &= ~present[:, before].any(axis=1)
    last = np.iinfo(np.int64).max
    first = np.where(present, offset, last).min(axis=1, initial=last)
    length = (offset + size).max(axis=1, initial=-1, where=present) - first
    first, length = np.where(present.any(axis=1), (first, length), 0)
    length[length - size.sum(axis=1, where=present) > _WORTH_READING_OVER] = -1
    start = np.where(present, offset - first[:, None], -1)
    members = np.stack([start, start + size, crc32.astype(np.int64)], axis=2).reshape(len(index), -1)
    key_ends = np.cumsum([0, *map(len, index.keys)])
    head = np.stack([key_ends[:-1], key_ends[1:], first, length], axis=1)
    return np.concatenate([head, members], axis=1).astype("<i8").tobytes()
