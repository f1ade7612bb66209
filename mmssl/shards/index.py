"""The sidecar index of one tar: where every field of every sample lies, and its checksum."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from mmssl import files
from mmssl.errors import MmsslError

FORMAT = "mmssl-index"
VERSION = 1

_COLUMN = re.compile(r"[a-z]+(_[a-z0-9_]+)?\.[a-z0-9]+")
_TENSORS = {"key_bytes": "uint8", "key_ends": "int64", "offset": "int64", "size": "int64", "crc32": "uint32"}


@dataclass(frozen=True)
class ShardIndex:
    """n samples by F columns; row r of the tar is the sample with id ``first_id + r`` of its split.

    Stored as safetensors: no reader can be made to execute it, and the same content gives the same bytes.
    """

    columns: tuple[str, ...]
    """Field and extension, such as ``image.jpg``; sorted."""
    first_id: int
    key_bytes: np.ndarray
    """(K,) uint8: all keys, UTF-8, one after the other."""
    key_ends: np.ndarray
    """(n,) int64: where each key ends in ``key_bytes``."""
    offset: np.ndarray
    """(n, F) int64: first payload byte in the tar; -1 = the sample has no such field."""
    size: np.ndarray
    """(n, F) int64: payload bytes; 0 where absent."""
    crc32: np.ndarray
    """(n, F) uint32 of the payload (zlib's polynomial); 0 where absent."""
    tar_bytes: int
    """Size of the whole tar, to notice a truncated or exchanged one without reading it."""

    def __len__(self) -> int:
        return len(self.key_ends)

    @cached_property
    def keys(self) -> list[str]:
        """The n keys, decoded."""
        raw = self.key_bytes.tobytes()
        starts = [0, *self.key_ends[:-1].tolist()]
        return [
            raw[start:end].decode("utf-8", "surrogateescape")
            for start, end in zip(starts, self.key_ends.tolist(), strict=False)
        ]

    @classmethod
    def build(
        cls,
        rows: Sequence[tuple[str, dict[str, tuple[int, int, int]]]],
        *,
        tar_bytes: int,
        first_id: int = 0,
    ) -> "ShardIndex":
        """From rows of (key, {column: (offset, size, crc32)})."""
        columns = tuple(sorted({column for _, fields in rows for column in fields}))
        place = {column: position for position, column in enumerate(columns)}
        offset = np.full((len(rows), len(columns)), -1, np.int64)
        size = np.zeros((len(rows), len(columns)), np.int64)
        crc32 = np.zeros((len(rows), len(columns)), np.uint32)
        for row, (_, fields) in enumerate(rows):
            for column, values in fields.items():
                at = row, place[column]
                offset[at], size[at], crc32[at] = values
        encoded = [key.encode("utf-8", "surrogateescape") for key, _ in rows]
        return cls(
            columns=columns,
            first_id=first_id,
            key_bytes=np.frombuffer(b"".join(encoded), np.uint8),
            key_ends=np.cumsum([len(key) for key in encoded], dtype=np.int64),
            offset=offset,
            size=size,
            crc32=crc32,
            tar_bytes=tar_bytes,
        )

    def at(self, first_id: int) -> "ShardIndex":
        """The same shard at another place in its split."""
        return dataclasses.replace(self, first_id=first_id)

    def to_bytes(self) -> bytes:
        # One metadata entry only: safetensors keeps them in a hash map, whose order changes from run to run.
        about = {
            "format": FORMAT,
            "version": VERSION,
            "columns": self.columns,
            "first_id": self.first_id,
            "tar_bytes": self.tar_bytes,
        }
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        return safetensors.numpy.save(tensors, metadata={"index": json.dumps(about, sort_keys=True)})

    def save(self, path: Path | str) -> None:
        """Write atomically."""
        files.write_bytes(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path | str) -> "ShardIndex":
        """Read an index file; see ``from_bytes`` for what can be wrong with it."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise MmsslError(
                f"{path}: not readable ({error.strerror}); expected the index of a shard"
            ) from error
        return cls.from_bytes(data, path)

    @classmethod
    def from_bytes(cls, data: bytes, source: Path | str = "index") -> "ShardIndex":
        """Parse and check an index; ``source`` names it in messages.

        Raises:
            MmsslError: not an index, damaged, of another version, or tensors that do not fit each other.
        """
        try:
            tensors = safetensors.numpy.load(data)
            about = json.loads(_metadata(data)["index"])
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise MmsslError(f"{source}: not the index of a shard, or damaged ({error})") from error
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            found = f"{about.get('format')} {about.get('version')}"
            raise MmsslError(f"{source}: format {found}; this version reads {FORMAT} {VERSION}")
        try:
            index = cls(
                columns=tuple(about["columns"]),
                first_id=int(about["first_id"]),
                tar_bytes=int(about["tar_bytes"]),
                **{name: tensors[name] for name in _TENSORS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MmsslError(f"{source}: incomplete index, {error} is missing or of a wrong kind") from error
        index._check(source)
        return index

    def _check(self, source: Path | str) -> None:
        shape = (len(self), len(self.columns))
        consistent = (
            all(getattr(self, name).dtype == dtype for name, dtype in _TENSORS.items())
            and self.key_bytes.ndim == self.key_ends.ndim == 1
            and self.offset.shape == self.size.shape == self.crc32.shape == shape
            and all(_COLUMN.fullmatch(column) for column in self.columns)
            and bool(np.all(np.diff(self.key_ends, prepend=0) >= 0))
            and (int(self.key_ends[-1]) if len(self) else 0) == len(self.key_bytes)
        )
        # Written so that it cannot overflow, whatever a damaged file contains.
        present = self.offset >= 0
        inside = (
            (self.size >= 0) & (self.offset <= self.tar_bytes - self.size) & (self.size <= self.tar_bytes)
        )
        if not consistent or not np.all(inside | ~present) or np.any(self.size[~present]):
            raise MmsslError(f"{source}: an index whose tables do not fit each other; make it again")


def _metadata(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes, which its Python interface gives for files only."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]
