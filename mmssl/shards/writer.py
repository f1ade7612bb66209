"""Write one shard: a plain ustar archive that anyone can read, and the rows of its index."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmssl import files
from mmssl.errors import MmsslError
from mmssl.modalities import split_member
from mmssl.shards.index import ShardIndex
from mmssl.shards.tar import END_OF_ARCHIVE, header, padded


@dataclass(frozen=True)
class RawSample:
    """A key, and encoded bytes by column: ``{"image.jpg": b"...", "label.json": b"..."}``."""

    key: str
    members: Mapping[str, bytes]


@dataclass(frozen=True)
class WrittenShard:
    """What ``write_shard`` left on disk; the index is not stored yet: its first id may not be known."""

    index: ShardIndex
    sha256: str


def safe_key(name: str) -> str:
    """A key made of a relative path: dots become ``-`` (a key ends at its first dot), backslashes ``/``.

    >>> safe_key("val/cat.v1")
    'val/cat-v1'
    """
    return re.sub(r"/+", "/", name.replace("\\", "/").replace("\0", "-")).strip("/").replace(".", "-")


def write_shard(path: Path | str, samples: Iterable[RawSample]) -> WrittenShard:
    """Write the samples to ``path`` in the given order; the file appears only when it is whole.

    Members are sorted by column within a sample; owner, mode and times are constants: the same samples
    give the same bytes.

    Raises:
        MmsslError: a key twice, a key that would be grouped wrongly, an unknown field, or the disk is full.
    """
    rows: list[tuple[str, dict[str, tuple[int, int, int]]]] = []
    seen: set[str] = set()
    at = 0
    digest = hashlib.sha256()
    with files.atomic(path) as file:

        def put(block: bytes) -> None:
            nonlocal at
            file.write(block)
            digest.update(block)
            at += len(block)

        for sample in samples:
            if sample.key in seen:
                raise MmsslError(f"{path}: key {sample.key!r} occurs twice; every sample needs its own")
            if not sample.members:
                raise MmsslError(f"{path}: key {sample.key!r} has no fields")
            seen.add(sample.key)
            places: dict[str, tuple[int, int, int]] = {}
            for column in sorted(sample.members):
                name = f"{sample.key}.{column}"
                _check_member(name, sample.key, column)
                payload = sample.members[column]
                put(header(name, len(payload)))
                places[column] = (at, len(payload), zlib.crc32(payload))
                put(payload)
                put(bytes(padded(len(payload)) - len(payload)))
            rows.append((sample.key, places))
        put(END_OF_ARCHIVE)
    return WrittenShard(ShardIndex.build(rows, tar_bytes=at), digest.hexdigest())


def _check_member(name: str, key: str, column: str) -> None:
    found_key, field, extension = split_member(name)
    parts = key.split("/")
    if found_key != key or f"{field}.{extension}" != column or "" in parts or ".." in parts or "\0" in key:
        raise MmsslError(f"member {name!r}: not a key that tar readers group by; expected key {found_key!r}")
